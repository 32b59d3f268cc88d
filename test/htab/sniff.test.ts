import { sniffByteOrder } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { fixturesOf, load } from '../helpers/fixtures.js';
import { plainEncode, plainKernel } from '../helpers/reference.js';
import { hpte } from '../helpers/stream.js';

const block = (index: number, nValid: number, nInvalid: number) => ({
  index,
  entries: Buffer.concat(Array.from({ length: nValid }, (_, i) => hpte(i + 1))),
  nInvalid,
});

describe.each(fixturesOf('kernel'))('$file', (item) => {
  const little = load(item);
  const big = plainEncode(plainKernel(little, true), false);

  test.each([64, 1000, 65536, Number.POSITIVE_INFINITY])('its first %d bytes', (length) => {
    for (const [bytes, byteOrder] of [
      [little, 'little'],
      [big, 'big'],
    ] as const) {
      const head = bytes.subarray(0, length);
      const verdict = sniffByteOrder(head, head.length === bytes.length);
      // Never the wrong one; a short head may not be enough.
      expect([byteOrder, 'ambiguous']).toContain(verdict.byteOrder);
      if (length > 1000) expect(verdict.byteOrder).toBe(byteOrder);
    }
  });
});

describe('by hand', () => {
  test.each([
    // An empty table of order 18: 16384 = 0x4000 slots; the other way round, 64.
    ['a complete first pass beats a contiguous one', [block(0, 0, 16384)], true, 'little'],
    ['the same, cut before its end', [block(0, 0, 16384)], false, 'ambiguous'],
    ['a block that reads the same either way', [block(0x01010101, 0, 0x0101)], true, 'ambiguous'],
    ['entries tell, as they are valid', [block(3, 1, 0), block(9, 2, 1)], true, 'little'],
    ['nothing at all', [], true, 'ambiguous'],
    ['marks alone', [block(0, 0, 0), block(0, 0, 0)], true, 'neither'],
    ['a mark first', [block(0, 0, 0), block(0, 1, 3)], true, 'little'],
  ])('%s', (_name, blocks, whole, expected) => {
    expect(sniffByteOrder(plainEncode(blocks, true), whole).byteOrder).toBe(expected);
  });

  test('the order, if known, rules out what reaches beyond the table', () => {
    const bytes = plainEncode([block(0, 0, 0x0100), block(0x0100, 0, 0x0200)], true);
    expect(sniffByteOrder(bytes.subarray(0, 8), false, 18).byteOrder).toBe('ambiguous');
    expect(sniffByteOrder(bytes, false, 18).byteOrder).toBe('little');
  });

  test('the header of a block counts, though its entries go on behind the head', () => {
    for (const little of [true, false]) {
      const bytes = plainEncode([block(0, 0xffff, 0), block(0xffff, 3, 1)], little);
      const [header, entry] = [0xffff * 16 + 16, 0xffff * 16 + 32];
      expect(sniffByteOrder(bytes.subarray(0, header - 1), false).byteOrder).toBe('ambiguous');
      for (const length of [header, entry, bytes.length]) {
        const verdict = sniffByteOrder(bytes.subarray(0, length), false);
        expect(verdict.byteOrder).toBe(little ? 'little' : 'big');
      }
    }
  });

  test('what is no block in either order says where it fails', () => {
    const verdict = sniffByteOrder(Buffer.alloc(64, 0xee), true);
    expect(verdict).toMatchObject({ byteOrder: 'neither', little: { fault: { offset: 0 } } });
  });
});
