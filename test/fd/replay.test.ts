import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BufferSource,
  HashPageTable,
  type HtabFd,
  openHpt,
  orderOfSlots,
  replayHtabFd,
} from '../../src/index.js';
import { fixturesOf, load } from '../helpers/fixtures.js';
import { blocks } from './scripted.js';

const FIRST_PASSES = fixturesOf('kernel').filter(({ file }) => !/delta|written/.test(file));

async function replay(bytes: Uint8Array, order?: number): Promise<HtabFd> {
  const hpt = await openHpt(new BufferSource(bytes), {
    from: 'kernel',
    byteOrder: 'little',
    order,
  });
  return replayHtabFd(hpt.items());
}

async function bytesOf(fd: HtabFd, bufferBytes: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const batch of fd.pass({ bufferBytes })) pieces.push(Buffer.from(batch.bytes));
  return Buffer.concat(pieces);
}

describe.each(FIRST_PASSES)('$file', (fixture) => {
  test('comes back block for block', async () => {
    const bytes = load(fixture);
    const fd = await replay(bytes);
    expect((await bytesOf(fd, 2 << 20)).equals(bytes)).toBe(true);
    expect(fd.pass().number).toBe(1);
    expect((await bytesOf(fd, 2 << 20)).length).toBe(0);
  });

  test('smaller reads cut blocks, and give the same table', async () => {
    const order = fixture.order ?? orderOfSlots(2 ** 20);
    const bytes = load(fixture);
    const cut = await bytesOf(await replay(bytes), 2048);
    const tables = [bytes, cut].map(async (dump) => {
      const from = await openHpt(new BufferSource(dump), { from: 'kernel', byteOrder: 'little' });
      return HashPageTable.from(from.items(), order);
    });
    const [table, other] = await Promise.all(tables);
    expect(table !== undefined && other?.equals(table)).toBe(true);
  });
});

test('parts are passes; a recording that is over changes no more', async () => {
  const mark = Buffer.alloc(8);
  const recorded = [blocks([0, 1, 3]), mark, mark, blocks([2, 1, 0]), mark];
  const fd = await replay(Buffer.concat(recorded));
  const seen: number[] = [];
  for await (const pass of fd.passes({ max: 5 })) {
    for await (const _ of pass);
    seen.push(pass.blocks);
  }
  expect(seen).toEqual([1, 0, 1, 0, 0]);
});

test('a read asks for room beyond the block, as of the kernel', async () => {
  const { descriptor } = await replay(blocks([0, 2, 1], [9, 1, 0]));
  expect((await descriptor.read(24)).length).toBe(0);
  const reads: number[] = [];
  for (const length of [25, 40, 24, 25]) reads.push((await descriptor.read(length)).length);
  expect(reads).toEqual([24, 24, 0, 24]);
});

test('every cut keeps entries and empty slots', async () => {
  const block = fc.tuple(fc.nat(200), fc.nat(40), fc.nat(40)).filter(([i, v, n]) => i + v + n > 0);
  await fc.assert(
    fc.asyncProperty(
      fc.array(block, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 25, max: 900 }),
      async (list, bufferBytes) => {
        const fd = await replay(blocks(...list), 18);
        const slots: string[] = [];
        for (let pass = fd.pass({ bufferBytes }); ; pass = fd.pass({ bufferBytes })) {
          for await (const batch of pass) {
            expect(batch.bytes.length).toBeLessThan(bufferBytes);
            for (const { index, nValid, nInvalid, entries } of batch) {
              for (let i = 0; i < nValid; i++) {
                slots.push(`${index + i}=${Buffer.from(entries).readUInt32BE(16 * i + 8)}`);
              }
              for (let i = 0; i < nInvalid; i++) slots.push(`${index + nValid + i}`);
            }
          }
          if (!pass.changed) break;
        }
        const expected = list.flatMap(([index, nValid, nInvalid]) => [
          ...Array.from({ length: nValid }, (_, i) => `${index + i}=${index + i}`),
          ...Array.from({ length: nInvalid }, (_, i) => `${index + nValid + i}`),
        ]);
        expect(slots).toEqual(expected);
      },
    ),
  );
});

test('a recording is not written, and gives its source back', async () => {
  let returned = 0;
  const items = {
    [Symbol.asyncIterator]: () => ({
      next: async () => ({ done: true as const, value: undefined }),
      return: async () => {
        returned++;
        return { done: true as const, value: undefined };
      },
    }),
  };
  const fd = replayHtabFd(items);
  await expect(fd.descriptor.write(new Uint8Array(8))).rejects.toMatchObject({ actual: 'EBADF' });
  expect(await fd.descriptor.writeBlocks(new Uint8Array(8))).toMatchObject({ errno: 'EBADF' });
  await fd.close();
  await fd.close();
  expect(returned).toBe(1);
  await expect(fd.descriptor.read(100)).rejects.toMatchObject({ code: 'E_IO', actual: 'EBADF' });
});
