import fc from 'fast-check';
import { block, R, V } from '../../helpers/entries.js';
import { u32 } from '../../helpers/stream.js';

/** The order of most generated tables: the smallest there is. */
export const ORDER = 18;
const SLOTS = 2 ** (ORDER - 4);

interface Shape {
  readonly index: number;
  readonly valid: number;
  readonly invalid: number;
  readonly flags: bigint;
}

const shape = (slots: number): fc.Arbitrary<Shape> =>
  fc
    .record({
      index: fc.oneof(fc.nat(40), fc.nat(slots - 1), fc.constant(slots - 1)),
      valid: fc.oneof(fc.nat(3), fc.nat(40)),
      invalid: fc.oneof(fc.constant(0), fc.nat(18), fc.constant(300)),
      flags: fc.constantFrom(0n, 0x10n, 0x2n, 0x4n, 0x50n),
    })
    .map(({ index, valid, invalid, flags }) => ({
      index,
      valid: Math.min(valid, slots - index),
      invalid: Math.min(invalid, slots - index - Math.min(valid, slots - index)),
      flags,
    }))
    // Nothing at slot 0 is an end mark.
    .filter(({ index, valid, invalid }) => index + valid + invalid > 0);

/** Blocks of a table, in any order, some of them over others. */
export const shapes = fc.oneof(
  fc.array(shape(SLOTS), { maxLength: 12 }),
  fc.array(shape(SLOTS), { minLength: 1, maxLength: 60 }),
);

export function blocksFrom(list: readonly Shape[], little: boolean): Buffer {
  return Buffer.concat(
    list.map(({ index, valid, invalid, flags }) => {
      const entries = Array.from(
        { length: valid },
        (_, i) => [V(index + i) | flags, R(index + i)] as const,
      );
      return block(index, entries, invalid, little);
    }),
  );
}

/** The whole of a table in one pass, as the kernel gives it. */
export const firstPass = fc
  .array(fc.record({ valid: fc.integer({ min: 1, max: 30 }), gap: fc.nat(200) }), { maxLength: 60 })
  .map((runs) => {
    const list: Shape[] = [];
    let index = 0;
    for (const { valid, gap } of runs) {
      list.push({ index, valid, invalid: gap, flags: 0n });
      index += valid + gap;
    }
    for (; index < SLOTS; index += 0xffff) {
      list.push({ index, valid: 0, invalid: Math.min(0xffff, SLOTS - index), flags: 0n });
    }
    return list;
  });

const mark = Buffer.alloc(8);

/** PART and END payloads. */
export const parts = fc
  .array(shapes, { minLength: 1, maxLength: 4 })
  .map((list) => list.map((part) => Buffer.concat([u32(0), blocksFrom(part, false), mark])));

/** Payloads of `spapr/htab`: START, and then the others. */
export const payloads = parts.map((list) => [u32(ORDER), ...list]);
