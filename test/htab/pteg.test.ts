import fc from 'fast-check';
import { pageShifts } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import {
  BAD_PAGE_SIZE,
  BAD_SEGMENT,
  hashOf,
  MISPLACED,
  ptegOf,
  slotInOrder,
} from '../../src/htab/pteg.js';
import { FIXTURES, fixturesOf, load } from '../helpers/fixtures.js';
import {
  ENCODINGS,
  kernelPteg,
  type PlainPage,
  plainEntry,
  plainHash,
  plainPteg,
} from '../helpers/hash.js';
import { plainKernel } from '../helpers/reference.js';

const order = fc.integer({ min: 18, max: 46 });

/** Pages that a guest can have: none is larger than its segment. */
const page: fc.Arbitrary<PlainPage> = fc
  .record({
    b: fc.constantFrom<(0 | 1)[]>(0, 1),
    encoding: fc.constantFrom(...ENCODINGS),
    vsid: fc.bigInt({ min: 0n, max: (1n << 50n) - 1n }),
    offset: fc.bigInt({ min: 0n, max: (1n << 40n) - 1n }),
    secondary: fc.boolean(),
  })
  .filter(({ b, encoding }) => b === 1 || encoding.base < 28)
  .map(({ b, encoding: { base, actual }, vsid, offset, secondary }) => ({
    b,
    vsid: b === 0 ? vsid : vsid & ((1n << 38n) - 1n),
    offset: b === 0 ? offset & ((1n << 28n) - 1n) : offset,
    base,
    actual,
    secondary,
  }));

const place = fc.integer({ min: 0, max: 7 });

describe('page sizes', () => {
  const entry = (large: boolean, lp: number, stray = 0): Buffer => {
    const bytes = Buffer.alloc(16);
    bytes[7] = large ? 5 : 1;
    bytes.writeUInt32BE((stray | (lp << 12)) >>> 0, 12);
    return bytes;
  };

  test('every LP field', () => {
    const known: Record<number, [number, number]> = {
      0: [24, 24],
      3: [34, 34],
      8: [16, 24],
      56: [12, 24],
    };
    for (let high = 0; high < 16; high++) {
      known[high * 16 + 1] = [16, 16];
      known[high * 16 + 7] = [12, 16];
    }
    for (let lp = 0; lp < 256; lp++) {
      const [base, actual] = known[lp] ?? [];
      const expected = base === undefined ? undefined : { base, actual };
      expect(pageShifts(entry(true, lp)), `LP ${lp}`).toEqual(expected);
      // KVM looks at eight bits: neither those above nor those below count.
      expect(pageShifts(entry(true, lp, 0xfff00fff | 0)), `LP ${lp}`).toEqual(expected);
      expect(pageShifts(entry(false, lp))).toEqual({ base: 12, actual: 12 });
    }
    expect(Object.keys(known)).toHaveLength(36);
  });

  test('at an offset', () => {
    const bytes = Buffer.concat([Buffer.alloc(16), entry(true, 0x08)]);
    expect(pageShifts(bytes, 16)).toEqual({ base: 16, actual: 24 });
    expect(pageShifts(bytes)).toEqual({ base: 12, actual: 12 });
  });
});

describe('the place of an entry', () => {
  test('hash, PTEG and slot are those of the definition, in tables of all orders', () => {
    fc.assert(
      fc.property(page, order, order, place, (one, from, to, slot) => {
        const bytes = Buffer.concat([Buffer.alloc(5), plainEntry(one)]);
        const index = Number(plainPteg(one, from)) * 8 + slot;
        expect(hashOf(bytes, 5, index, from)).toBe(Number(plainHash(one)));
        const expected = Number(plainPteg(one, to)) * 8 + slot;
        expect(slotInOrder(bytes, 5, index, from, to)).toBe(expected);
        expect(slotInOrder(bytes, 5, expected, to, from)).toBe(index);
        expect(ptegOf(Number(plainHash(one)), one.secondary, to)).toBe(Number(plainPteg(one, to)));
      }),
      { numRuns: 3000 },
    );
  });

  test('what the kernel computes for a resize is the same', () => {
    fc.assert(
      fc.property(page, order, order, (one, from, to) => {
        const bytes = plainEntry(one);
        const pteg = plainPteg(one, from);
        const expected = kernelPteg(bytes, pteg, one.base, from, to);
        expect(slotInOrder(bytes, 0, Number(pteg) * 8, from, to)).toBe(Number(expected) * 8);
      }),
      { numRuns: 3000 },
    );
  });

  test('the software bits and all of DW1 but LP have no say', () => {
    fc.assert(
      fc.property(
        page,
        order,
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        (one, from, noise) => {
          const index = Number(plainPteg(one, from)) * 8;
          const bytes = plainEntry(one, noise & 0x78n);
          const lp = 0xff000n;
          bytes.writeBigUInt64BE((noise & ~lp) | (bytes.readBigUInt64BE(8) & lp), 8);
          expect(hashOf(bytes, 0, index, from)).toBe(Number(plainHash(one)));
        },
      ),
    );
  });

  test('an entry belongs to a PTEG exactly if some page that it can mean hashes to it', () => {
    // The oracle tries every value of the offset bits that an entry does not have.
    const near = fc.record({
      one: page,
      from: order,
      flip: fc.bigInt({ min: 0n, max: 1n << 39n }),
    });
    const verdicts = { right: 0, wrong: 0 };
    fc.assert(
      fc.property(near, fc.boolean(), fc.boolean(), ({ one, from, flip }, low, same) => {
        const mask = (1n << BigInt(from - 7)) - 1n;
        // Only bits that an entry of 4 KiB pages leaves open, or any.
        const pteg = (plainPteg(one, from) ^ (same ? 0n : low ? flip & 0x7ffn : flip)) & mask;
        const open = one.base < 23 ? 1n << BigInt(23 - one.base) : 1n;
        const kept = (one.offset >> 23n) << 23n;
        let found: bigint | undefined;
        for (let bits = 0n; bits < open && found === undefined; bits++) {
          const offset = one.base < 23 ? kept | (bits << BigInt(one.base)) : one.offset;
          const candidate = { ...one, offset };
          if (plainPteg(candidate, from) === pteg) found = plainHash(candidate);
        }
        verdicts[found === undefined ? 'wrong' : 'right']++;
        const expected = found === undefined ? MISPLACED : Number(found);
        expect(hashOf(plainEntry(one), 0, Number(pteg) * 8 + 3, from)).toBe(expected);
      }),
      { numRuns: 400 },
    );
    expect(verdicts.right).toBeGreaterThan(50);
    expect(verdicts.wrong).toBeGreaterThan(50);
  });

  test('a misplaced entry that the kernel would not notice', () => {
    // 256 MiB segment, VSID 0, offset 0: PTEGs 0 to 2047. In PTEG 2^16 the bits that it implies lie
    // beyond the segment, and ORed over the entry's own they give the same PTEG again.
    const one: PlainPage = { b: 0, vsid: 0n, offset: 0n, base: 12, actual: 12, secondary: false };
    const bytes = plainEntry(one);
    expect(kernelPteg(bytes, 1n << 16n, 12, 30, 30)).toBe(1n << 16n);
    expect(slotInOrder(bytes, 0, 2 ** 19, 30, 30)).toBe(MISPLACED);
    expect(slotInOrder(bytes, 0, 2047 * 8, 30, 30)).toBe(2047 * 8);
    expect(slotInOrder(bytes, 0, 2048 * 8, 30, 30)).toBe(MISPLACED);
  });

  test('of the hash every bit counts, in tables of all orders', () => {
    const one: PlainPage = {
      b: 1,
      vsid: 0x2f00d5a5an,
      offset: 0n,
      base: 24,
      actual: 24,
      secondary: false,
    };
    for (let from = 18; from <= 46; from++) {
      const pteg = Number(plainPteg(one, from));
      for (let bit = 0; bit < from - 7; bit++) {
        const other = pteg % 2 ** (bit + 1) >= 2 ** bit ? pteg - 2 ** bit : pteg + 2 ** bit;
        expect(hashOf(plainEntry(one), 0, other * 8, from), `${from}, bit ${bit}`).toBe(MISPLACED);
      }
      expect(hashOf(plainEntry(one), 0, pteg * 8, from)).toBe(Number(plainHash(one)));
    }
  });

  test('reserved segment sizes and unknown page sizes have no place', () => {
    const bytes = plainEntry({
      b: 1,
      vsid: 5n,
      offset: 0n,
      base: 16,
      actual: 16,
      secondary: false,
    });
    for (const b of [0x80, 0xc0]) {
      const bad = Buffer.from(bytes);
      bad[0] = b;
      expect(hashOf(bad, 0, 40, 20)).toBe(BAD_SEGMENT);
      expect(slotInOrder(bad, 0, 40, 20, 21)).toBe(BAD_SEGMENT);
    }
    const bad = Buffer.from(bytes);
    bad[14] = 0x20;
    expect(hashOf(bad, 0, 40, 20)).toBe(BAD_PAGE_SIZE);
    expect(slotInOrder(bad, 0, 40, 20, 21)).toBe(BAD_PAGE_SIZE);
  });

  test('a table of KVM, entry for entry', () => {
    const files = fixturesOf('kernel').filter(({ file }) => file.includes('-guest.htab'));
    expect(files.length).toBe(FIXTURES.filter(({ file }) => /-guest\.htab\.gz$/.test(file)).length);
    for (const fixture of files) {
      const from = fixture.order ?? 0;
      let seen = 0;
      for (const { index, entries } of plainKernel(load(fixture), true)) {
        for (let i = 0; i * 16 < entries.length; i++, seen++) {
          const base = pageShifts(entries, i * 16)?.base ?? 0;
          const entry = entries.subarray(i * 16, i * 16 + 16);
          const pteg = BigInt(Math.floor((index + i) / 8));
          for (const to of [18, from, 46]) {
            const expected =
              Number(kernelPteg(entry, pteg, base, from, to)) * 8 + ((index + i) % 8);
            expect(slotInOrder(entries, i * 16, index + i, from, to)).toBe(expected);
          }
        }
      }
      expect(seen).toBeGreaterThan(16000);
    }
  });
});
