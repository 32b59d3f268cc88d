import {
  BufferSource,
  extractRam,
  inspectDevices,
  type OpenOptions,
  openHpt,
  SpaprHtabError,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { FIXTURES, fixturesOf, load } from './helpers/fixtures.js';
import { collect, random, scratchFile } from './helpers/sources.js';
import { smallGuest } from './helpers/stream.js';

/**
 * What damage to a real file does: an error that names a place in it, or a result. For a snapshot
 * that was cut off, the result must be the whole HPT; a kernel file has no end to be missed.
 */
async function outcome(bytes: Buffer, options: OpenOptions): Promise<Buffer | SpaprHtabError> {
  try {
    await using hpt = await openHpt(new BufferSource(bytes), options);
    return await collect(hpt.encode('section'));
  } catch (error) {
    if (!(error instanceof SpaprHtabError)) throw error;
    return error;
  }
}

/** Only what is no place in the file has none: an order that is missing, or a byte order. */
function expectPlace(error: SpaprHtabError, length: number): void {
  if (['E_AMBIGUOUS', 'E_ORDER_REQUIRED', 'E_NO_HPT'].includes(error.code)) return;
  expect(error.offset, error.message).toBeGreaterThanOrEqual(0);
  expect(error.offset, error.message).toBeLessThanOrEqual(length);
}

const CUTS = 60;
const FLIPS = 60;

describe.each(FIXTURES.filter(({ format }) => format === 'snapshot' || format === 'kernel'))(
  '$file',
  (item) => {
    const bytes = load(item);
    const options: OpenOptions =
      item.format === 'kernel' ? { from: 'kernel', order: item.order ?? 24 } : {};

    test('cut off anywhere', async () => {
      const whole = await outcome(bytes, options);
      if (!Buffer.isBuffer(whole)) throw whole;
      const next = random(bytes.length);
      for (let i = 0; i < CUTS; i++) {
        // Half of the cuts near the end, where the devices and the description are.
        const length = Math.floor(bytes.length * (i % 2 === 0 ? next() : 1 - next() * 0.02));
        const result = await outcome(bytes.subarray(0, length), options);
        if (!Buffer.isBuffer(result)) expectPlace(result, length);
        else if (item.format === 'snapshot') expect(result.equals(whole)).toBe(true);
        else expect(result.subarray(0, -8).equals(whole.subarray(0, result.length - 8))).toBe(true);
      }
    });

    test('with bits flipped', async () => {
      const next = random(bytes.length + 1);
      for (let i = 0; i < FLIPS; i++) {
        const flipped = Buffer.from(bytes);
        for (let n = 0; n <= i % 3; n++) {
          // Where most of the structure is: the beginning, and all over.
          const at = Math.floor(next() * (i % 2 === 0 ? 4096 : bytes.length));
          flipped[at] = (flipped[at] ?? 0) ^ (1 << Math.floor(next() * 8));
        }
        const result = await outcome(flipped, options);
        if (!Buffer.isBuffer(result)) expectPlace(result, bytes.length);
      }
    });
  },
);

test('a damaged snapshot gives memory and devices, or a typed error', async () => {
  const next = random(5);
  const guests = [smallGuest(), load(fixturesOf('snapshot')[0] ?? FIXTURES[0] ?? never())];
  for (const bytes of guests) {
    for (let i = 0; i < 60; i++) {
      const damaged = Buffer.from(
        bytes.subarray(0, i % 4 === 0 ? next() * bytes.length : undefined),
      );
      for (let n = 0; n < 2; n++) {
        const at = Math.floor(next() * damaged.length);
        damaged[at] = (damaged[at] ?? 0) ^ (1 << Math.floor(next() * 8));
      }
      try {
        for await (const device of inspectDevices(new BufferSource(damaged))) {
          expect(device.payloadOffset + device.payloadLength).toBeLessThanOrEqual(damaged.length);
        }
        await extractRam(new BufferSource(damaged), scratchFile('ram'));
      } catch (error) {
        expect(error).toBeInstanceOf(SpaprHtabError);
      }
    }
  }
});

function never(): never {
  throw new Error('there are no fixtures');
}
