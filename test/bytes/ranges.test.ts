import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AtomicFile } from '../../src/bytes/output.js';
import { type ByteSource, openFile } from '../../src/bytes/source.js';
import { pattern } from '../container/support.js';
import { scratch } from '../helpers/sources.js';
import {
  addon,
  BOTH,
  COPIES,
  MIB,
  made,
  type Piece,
  sharingDevice,
  sparseFile,
  useAddon,
} from './support.js';

const K4 = 4096;
/** Mostly round numbers, where blocks begin and end, and some that are not. */
const place = (max: number) =>
  fc.oneof(
    fc.nat(max),
    fc.nat(Math.floor(max / K4)).map((n) => n * K4),
    fc.nat(Math.floor(max / 65536)).map((n) => n * 65536),
  );
const SIZE = 1.5 * MIB;
const plan = fc.record({
  pieces: fc.array(
    fc.record({
      at: place(SIZE - 1),
      length: place(400_000),
      seed: fc.nat(),
      zero: fc.boolean(),
    }),
    { maxLength: 6 },
  ),
  steps: fc.array(
    fc.oneof(
      fc.record({ type: fc.constant('copy' as const), from: place(SIZE), length: place(SIZE) }),
      fc.record({ type: fc.constant('hole' as const), length: place(300_000) }),
      fc.record({ type: fc.constant('bytes' as const), length: fc.nat(5000) }),
      fc.record({
        type: fc.constant('copyTo' as const),
        from: place(SIZE),
        length: place(SIZE),
        to: place(2 * SIZE),
      }),
    ),
    { maxLength: 8 },
  ),
});

type Plan = typeof plan extends fc.Arbitrary<infer P> ? P : never;

/** The file that the steps make of the input. */
function modelOf(input: Buffer, steps: Plan['steps']): Buffer {
  let model = Buffer.alloc(0);
  let position = 0;
  const put = (bytes: Uint8Array, at: number): void => {
    if (bytes.length === 0) return;
    const grown = Buffer.alloc(Math.max(model.length, at + bytes.length));
    model.copy(grown);
    grown.set(bytes, at);
    model = grown;
  };
  for (const step of steps) {
    if (step.type === 'copyTo') put(input.subarray(step.from, step.from + step.length), step.to);
    else {
      const bytes =
        step.type === 'copy'
          ? input.subarray(step.from, step.from + step.length)
          : step.type === 'bytes'
            ? pattern(step.length)
            : undefined;
      // A hole is only passed over: what a positional copy left there stays.
      if (bytes !== undefined) put(bytes, position);
      else if (step.type === 'hole' && position + step.length > model.length) {
        const grown = Buffer.alloc(position + step.length);
        model.copy(grown);
        model = grown;
      }
      position += bytes?.length ?? step.length;
    }
  }
  return model;
}

/** The steps with the addon and without, in that folder: each makes what the model does. */
async function check(folder: string, { pieces, steps }: Plan): Promise<void> {
  const path = sparseFile(
    SIZE,
    pieces.map(({ at, length, seed, zero }): Piece => {
      const bytes = zero ? Buffer.alloc(length) : pattern(length, seed);
      return { at, bytes: bytes.subarray(0, SIZE - at) };
    }),
    join(folder, 'in'),
  );
  const input = readFileSync(path);
  const inside = steps.map((step) =>
    'from' in step ? { ...step, length: Math.min(step.length, SIZE - step.from) } : step,
  );
  const model = modelOf(input, inside);
  const run = async (file: AtomicFile, source: ByteSource): Promise<void> => {
    for (const step of inside) {
      if (step.type === 'copy') await file.copy(source, step.from, step.length);
      else if (step.type === 'hole') await file.hole(step.length);
      else if (step.type === 'bytes') await file.append(pattern(step.length));
      else await file.copyTo(step.to, source, step.from, step.length);
    }
  };
  for (const [how, on] of BOTH) {
    useAddon(on);
    const output = join(folder, 'out');
    const { bytes } = await made(await openFile(path), run, output);
    expect(bytes.equals(model), how).toBe(true);
    rmSync(output);
  }
  rmSync(path);
}

test('any ranges, holes and offsets: the same file with the addon and without, and as a model', async () => {
  await fc.assert(
    fc.asyncProperty(plan, (steps) => check(scratch(), steps)),
    { numRuns: 100 },
  );
});

const sharing = COPIES ? sharingDevice() : undefined;

describe.runIf(sharing !== undefined)('where files can share blocks', () => {
  const folder = sharing ?? '';

  test('the same', async () => {
    await fc.assert(
      fc.asyncProperty(plan, (steps) => check(folder, steps)),
      { numRuns: 50 },
    );
  });

  test('they do, where blocks of both stand alike', async () => {
    const { copyRange } = addon();
    if (copyRange === undefined) throw new Error('not there');
    const bytes = pattern(MIB + 77);
    const path = join(folder, 'whole');
    writeFileSync(path, bytes);
    await using input = await open(path);
    // From, to, and how much of the range is whole blocks of 4 KiB.
    for (const [from, to, shared] of [
      [0, 0, MIB],
      [0, 8192, MIB],
      [10, 4096 + 10, MIB - 4096],
      [4000, 4096 + 4000, MIB - 4096],
      [4096, 1, 0],
      [MIB, 0, 0],
    ] as const) {
      const target = join(folder, `${from}-${to}`);
      await using output = await open(target, 'wx+');
      // More than there is.
      const result = await copyRange(input.fd, from, output.fd, to, bytes.length);
      const copied = bytes.length - from;
      expect(result).toEqual({ copied, shared, errno: 0, reading: false });
      expect(readFileSync(target).subarray(to).equals(bytes.subarray(from))).toBe(true);
    }
  });
});
