import fc from 'fast-check';
import { HashPageTable, openHpt, pageShifts, type TableReport, verifyTable } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { fixturesOf, fixtureUrl } from '../helpers/fixtures.js';
import { ENCODINGS, type PlainPage, plainEntry, plainPteg } from '../helpers/hash.js';

const page: PlainPage = {
  b: 1,
  vsid: 0x54321n,
  offset: 0x1_2345_0000n,
  base: 16,
  actual: 16,
  secondary: false,
};

function put(table: HashPageTable, index: number, bytes: Buffer): number {
  table.apply([{ index, nValid: 1, nInvalid: 0, entries: bytes }]);
  return index;
}

function slotOf(one: PlainPage, order: number, place = 0): number {
  return Number(plainPteg(one, order)) * 8 + place;
}

const brief = ({ findings }: TableReport) =>
  findings.map(({ code, severity, count, first }) => [code, severity, count, first]);

describe('verifyTable', () => {
  test('an empty table', async () => {
    expect(await verifyTable(new HashPageTable(46))).toEqual({
      order: 46,
      valid: 0,
      bolted: 0,
      large: 0,
      primary: 0,
      secondary: 0,
      byPageSize: [],
      findings: [],
    });
  });

  test('counts', async () => {
    const table = new HashPageTable(24);
    ENCODINGS.forEach(({ base, actual }, place) => {
      for (const secondary of [false, true]) {
        const one = { ...page, base, actual, vsid: page.vsid + BigInt(place), secondary };
        // The secondary one is of a page next to it.
        const other = secondary ? { ...one, offset: one.offset ^ (1n << BigInt(base)) } : one;
        put(table, slotOf(other, 24, place), plainEntry(other, place === 0 ? 0x10n : 0n));
      }
    });
    expect(await verifyTable(table)).toEqual({
      order: 24,
      valid: 14,
      bolted: 2,
      large: 12,
      primary: 7,
      secondary: 7,
      byPageSize: ENCODINGS.map(({ base, actual }) => ({
        base: 2 ** base,
        actual: 2 ** actual,
        count: 2,
      })),
      findings: [],
    });
  });

  test('every kind of fault, once and thrice', async () => {
    const byte = (value: number, at: number) => (index: number, bytes: Buffer) => {
      bytes[at] = value;
      return index;
    };
    const faults: [string, string, (index: number, bytes: Buffer) => number][] = [
      ['not-valid', 'error', byte(0x10, 7)],
      ['page-size', 'error', byte(0x20, 14)],
      ['segment-size', 'error', byte(0xc0, 0)],
      ['misplaced', 'error', (index) => index ^ (8 * 128)],
    ];
    for (const [code, severity, spoil] of faults) {
      for (const places of [[2], [1, 5, 7]]) {
        const table = new HashPageTable(22);
        const slots = places.map((place) => {
          const one = { ...page, vsid: page.vsid + (BigInt(place) << 30n) };
          put(table, slotOf(one, 22, 0), plainEntry(one));
          const bytes = plainEntry(one);
          return put(table, spoil(slotOf(one, 22, place), bytes), bytes);
        });
        const result = await verifyTable(table);
        expect(brief(result)).toEqual([[code, severity, places.length, Math.min(...slots)]]);
        expect(result.findings[0]?.message).toContain(`slot ${Math.min(...slots)}`);
      }
    }
  });

  test('an entry under a wrong H bit is misplaced, in its secondary PTEG it is not', async () => {
    for (const secondary of [false, true]) {
      const one = { ...page, secondary };
      const table = new HashPageTable(26);
      const index = put(table, slotOf(one, 26), plainEntry(one));
      expect(brief(await verifyTable(table))).toEqual([]);
      put(table, index, plainEntry({ ...one, secondary: !secondary }));
      expect(brief(await verifyTable(table))).toEqual([['misplaced', 'error', 1, index]]);
    }
  });

  describe('duplicates', () => {
    const segments = fc.constantFrom<(0 | 1)[]>(0, 1);
    const some = fc
      .record({
        b: segments,
        encoding: fc.constantFrom(...ENCODINGS),
        vsid: fc.bigInt({ min: 0n, max: 2n ** 38n - 1n }),
        offset: fc.bigInt({ min: 0n, max: 2n ** 28n - 1n }),
        order: fc.integer({ min: 18, max: 46 }),
      })
      .filter(({ b, encoding }) => b === 1 || encoding.base < 28);

    test('in one PTEG, or one in each, of whatever actual size', async () => {
      await fc.assert(
        fc.asyncProperty(
          some,
          fc.boolean(),
          fc.boolean(),
          async ({ b, encoding, vsid, offset, order }, one, two) => {
            const twins = ENCODINGS.filter(({ base }) => base === encoding.base);
            const other = twins[twins.length - 1] ?? encoding;
            const make = ({ base, actual }: { base: number; actual: number }, secondary: boolean) =>
              ({ b, vsid, offset, base, actual, secondary }) satisfies PlainPage;
            const table = new HashPageTable(order);
            const a = make(encoding, one);
            const c = make(other, two);
            const first = put(table, slotOf(a, order, 1), plainEntry(a));
            const second = put(table, slotOf(c, order, 6), plainEntry(c, 0x10n));
            // The later one, or the one in the secondary PTEG.
            const named = one === two ? Math.max(first, second) : one ? first : second;
            expect(brief(await verifyTable(table))).toEqual([['duplicate', 'warning', 1, named]]);
          },
        ),
        { numRuns: 300 },
      );
    });

    test('what AVPN says below the page size does not count', async () => {
      const huge = { ...page, base: 34, actual: 34, offset: 0n };
      const table = new HashPageTable(24);
      put(table, slotOf(huge, 24, 0), plainEntry(huge));
      const bytes = plainEntry(huge);
      bytes[6] = 0xff;
      bytes[7] = (bytes[7] ?? 0) | 0x80;
      const index = put(table, slotOf(huge, 24, 4), bytes);
      expect(brief(await verifyTable(table))).toEqual([['duplicate', 'warning', 1, index]]);
    });

    test('each of many counts once', async () => {
      const table = new HashPageTable(24);
      const second = { ...page, secondary: true };
      const slots = [0, 1, 2].map((place) => put(table, slotOf(page, 24, place), plainEntry(page)));
      for (const place of [0, 1])
        slots.push(put(table, slotOf(second, 24, place), plainEntry(second)));
      const named = slots.slice(1).sort((a, b) => a - b)[0];
      expect(brief(await verifyTable(table))).toEqual([['duplicate', 'warning', 4, named]]);
    });

    test('pages that differ in one thing are none', async () => {
      const others: PlainPage[] = [
        { ...page, b: 0, offset: page.offset & 0xfffffffn },
        { ...page, vsid: page.vsid ^ (1n << 37n) },
        { ...page, offset: page.offset ^ (1n << 16n) },
        { ...page, offset: page.offset ^ (1n << 23n) },
        { ...page, offset: page.offset ^ (1n << 39n) },
        // The same address, which Linux may leave behind when it changes a segment's page size.
        { ...page, base: 12, actual: 16 },
      ];
      for (const other of others) {
        for (const secondary of [false, true]) {
          const table = new HashPageTable(18);
          const one = { ...other, secondary };
          put(table, slotOf(page, 18, 0), plainEntry(page));
          put(table, slotOf(one, 18, 1), plainEntry(one));
          expect(brief(await verifyTable(table))).toEqual([]);
        }
      }
    });
  });

  describe('real tables', () => {
    const read = async (file: string, order?: number | null): Promise<HashPageTable> => {
      const options = order === undefined || order === null ? {} : { order };
      await using input = await openHpt(fixtureUrl(file).pathname, options);
      return await input.table();
    };

    test('tables of Linux have nothing that one could find fault with', async () => {
      const files = [...fixturesOf('snapshot'), ...fixturesOf('kernel')].filter(
        ({ file, order }) => order !== null && !file.includes('p8-many'),
      );
      let entries = 0;
      for (const { file, order } of files) {
        const table = await read(file, order);
        const result = await verifyTable(table);
        expect(result.findings, file).toEqual([]);
        const { valid, bolted, large, secondary, primary } = result;
        expect({ valid, bolted, large, notValid: 0 }).toEqual(table.counts());
        expect(primary + secondary).toBe(valid);
        expect(result.byPageSize.reduce((sum, { count }) => sum + count, 0)).toBe(valid);
        entries += valid;
      }
      expect(files.length).toBeGreaterThan(10);
      expect(entries).toBeGreaterThan(50_000);
    });

    test('entries that were made up are accepted by KVM wherever they stand, and are told', async () => {
      const table = await read('kvm/p8-many-r2048.htab.gz', 24);
      const result = await verifyTable(table);
      const misplaced: number[] = [];
      const mask = (1n << 17n) - 1n;
      for (const { index, dw0, dw1 } of table.entries()) {
        const bytes = Buffer.alloc(16);
        bytes.writeBigUInt64BE(dw0);
        bytes.writeBigUInt64BE(dw1, 8);
        const base = BigInt(pageShifts(bytes)?.base ?? 0);
        const avpn = (dw0 & ~(3n << 62n)) >> 7n;
        const big = dw0 >> 62n === 1n;
        const vsid = avpn >> (big ? 17n : 5n);
        const offset = (avpn & (big ? 0x1ffffn : 0x1fn)) << 23n;
        const known = vsid ^ (big ? vsid << 25n : 0n) ^ (offset >> base);
        const place = BigInt(index >> 3) ^ (dw0 & 2n ? mask : 0n);
        if (((known ^ place) & mask) >> (23n - base) !== 0n) misplaced.push(index);
      }
      expect(misplaced.length).toBe(98616);
      expect(brief(result)).toEqual([['misplaced', 'error', misplaced.length, misplaced[0]]]);
    });

    test('one wrong bit in the address of an entry is seen', async () => {
      const table = await read('qemu/linux-p8-paused.mig.gz');
      const entries = [...table.entries()];
      // Bits of the VSID that a table of 2^14 PTEGs can tell, beyond the 7 that 64 KiB pages imply.
      for (const bit of [31n, 32n, 35n, 37n]) {
        for (const { index, dw0, dw1 } of [entries[0], entries[2000]].flatMap((e) => e ?? [])) {
          const spoiled = await read('qemu/linux-p8-paused.mig.gz');
          const bytes = Buffer.alloc(16);
          bytes.writeBigUInt64BE(dw0 ^ (1n << bit));
          bytes.writeBigUInt64BE(dw1, 8);
          put(spoiled, index, bytes);
          expect(brief(await verifyTable(spoiled))).toEqual([['misplaced', 'error', 1, index]]);
        }
      }
    });
  });

  test('an abort is heeded', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(verifyTable(new HashPageTable(18), { signal })).rejects.toMatchObject({
      name: 'AbortedError',
      code: 'E_ABORTED',
      cause: new Error('enough'),
    });
  });
});
