import fc from 'fast-check';
import { HashPageTable, openHpt, type RehashOptions, rehash, SpaprHtabError } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { fixtureUrl } from '../helpers/fixtures.js';
import { type PlainPage, plainEntry, plainPteg } from '../helpers/hash.js';

interface Placed {
  readonly page: PlainPage;
  /** Place in the PTEG. */
  readonly place: number;
  readonly bolted: boolean;
}

const BOLTED = 0x10n;

function slotIn({ page, place }: Placed, order: number): number {
  return Number(plainPteg(page, order)) * 8 + place;
}

function bytesOf({ page, bolted }: Placed): Buffer {
  return plainEntry(page, bolted ? BOLTED : 0n);
}

/** A table of entries where they belong; of two for one slot, the last. */
function tableOf(order: number, entries: Iterable<Placed>): HashPageTable {
  const table = new HashPageTable(order);
  for (const entry of entries) put(table, slotIn(entry, order), bytesOf(entry));
  return table;
}

function put(table: HashPageTable, index: number, entries: Buffer): void {
  table.apply([{ index, nValid: entries.length / 16, nInvalid: 0, entries }]);
}

function contentOf(table: HashPageTable): Map<number, string> {
  return new Map([...table.entries()].map(({ index, dw0, dw1 }) => [index, `${dw0} ${dw1}`]));
}

/** The rules in their plainest form; two bolted entries for one slot are named. */
function expected(entries: Map<number, Placed>, to: number, likeKernel: boolean) {
  const sorted = [...entries].sort(([a], [b]) => a - b);
  const taken = new Map<number, number>();
  const result: Placed[] = [];
  const clashes: [number, number][] = [];
  let dropped = 0;
  for (const bolted of [true, false]) {
    for (const [index, entry] of sorted.filter(([, one]) => one.bolted === bolted)) {
      const slot = slotIn(entry, to);
      const owner = taken.get(slot);
      if (!bolted && (likeKernel || owner !== undefined)) {
        dropped++;
      } else if (owner !== undefined) {
        clashes.push([owner, index]);
      } else {
        taken.set(slot, index);
        result.push(entry);
      }
    }
  }
  const bolted = result.filter((one) => one.bolted).length;
  return { table: tableOf(to, result), bolted, kept: result.length - bolted, dropped, clashes };
}

/** Few segments and few pages, so that a small table has too little room. */
const placed = (bolted: fc.Arbitrary<boolean>): fc.Arbitrary<Placed> =>
  fc.record({
    page: fc.record({
      b: fc.constantFrom<(0 | 1)[]>(0, 1),
      vsid: fc.oneof(
        fc.bigInt({ min: 0n, max: 7n }).map((n) => n << 11n),
        fc.bigInt({ min: 0n, max: 2n ** 38n - 1n }),
      ),
      offset: fc.bigInt({ min: 0n, max: 0x3n }).map((n) => n << 16n),
      base: fc.constantFrom(12, 16),
      actual: fc.constant(16),
      secondary: fc.boolean(),
    }),
    place: fc.oneof(fc.constantFrom(0, 7), fc.integer({ min: 0, max: 7 })),
    bolted,
  });

const scarcely = fc.integer({ min: 0, max: 15 }).map((n) => n === 0);
const entries = fc.oneof(
  fc.array(placed(fc.boolean()), { maxLength: 60, size: 'max' }),
  fc.array(placed(scarcely), { maxLength: 300, size: 'max' }),
);
const order = fc.oneof(fc.integer({ min: 18, max: 46 }), fc.constantFrom(18, 18, 19, 25, 29, 46));

async function failure(promise: Promise<unknown>): Promise<SpaprHtabError> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  if (!(error instanceof SpaprHtabError)) throw new Error(`no failure of ours: ${error}`);
  return error;
}

describe('rehash', () => {
  test('gives the table that the rules give, whatever the orders', async () => {
    const seen = { larger: 0, smaller: 0, clash: 0, dropped: 0, kept: 0 };
    await fc.assert(
      fc.asyncProperty(entries, order, order, fc.boolean(), async (list, from, to, likeKernel) => {
        const byIndex = new Map(list.map((entry) => [slotIn(entry, from), entry]));
        const table = tableOf(from, byIndex.values());
        const before = contentOf(table);
        const { clashes, ...plain } = expected(byIndex, to, likeKernel);
        if (clashes.length > 0) {
          seen.clash++;
          const error = await failure(rehash(table, to, { likeKernel }));
          expect(error).toMatchObject({ name: 'UnsupportedError', code: 'E_COLLISION' });
          const [, first, second, slot] =
            /^slots (\d+) and (\d+), both for slot (\d+)$/.exec(error.actual ?? '') ?? [];
          expect(clashes).toContainEqual([Number(first), Number(second)]);
          for (const index of [Number(first), Number(second)]) {
            const one = byIndex.get(index);
            expect(one?.bolted).toBe(true);
            expect(one === undefined ? -1 : slotIn(one, to)).toBe(Number(slot));
          }
        } else {
          const result = await rehash(table, to, { likeKernel });
          expect(contentOf(result.table)).toEqual(contentOf(plain.table));
          expect(result.table.equals(plain.table)).toBe(true);
          const { bolted, kept, dropped } = plain;
          expect(result.counts).toEqual({ bolted, kept, dropped, notValid: 0 });
          seen.kept += kept;
          seen.dropped += dropped;
          if (to > from) seen.larger++;
          if (to < from) seen.smaller++;
        }
        expect(contentOf(table)).toEqual(before);
      }),
      { numRuns: 500 },
    );
    for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(5);
  });

  test('a larger table and back is the same table', async () => {
    await fc.assert(
      fc.asyncProperty(entries, order, order, async (list, a, b) => {
        const [small, large] = [Math.min(a, b), Math.max(a, b)];
        const table = tableOf(small, list);
        const there = await rehash(table, large);
        expect(there.counts.dropped).toBe(0);
        expect((await rehash(there.table, small)).table.equals(table)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  const page: PlainPage = {
    b: 1,
    vsid: 0x12345n,
    offset: 0x123450000n,
    base: 16,
    actual: 16,
    secondary: false,
  };
  const home = slotIn({ page, place: 3, bolted: false }, 20);

  test('all bits of an entry are carried along, the hypervisor’s too', async () => {
    const table = new HashPageTable(20);
    const bytes = plainEntry(page, 0x78n);
    bytes.writeBigUInt64BE(bytes.readBigUInt64BE(8) | 0xfff0_0000_0000_01ffn, 8);
    put(table, home, bytes);
    const { table: larger } = await rehash(table, 30);
    const index = slotIn({ page, place: 3, bolted: true }, 30);
    const dw0 = bytes.readBigUInt64BE();
    expect([...larger.entries()]).toEqual([{ index, dw0, dw1: bytes.readBigUInt64BE(8) }]);
  });

  test('entries without V are left out and counted', async () => {
    for (const to of [19, 20, 21]) {
      const table = new HashPageTable(20);
      const bytes = plainEntry(page, BOLTED);
      bytes[7] = (bytes[7] ?? 0) & ~1;
      put(table, home, Buffer.concat([bytes, bytes]));
      // Not where it belongs, nor of any page size: nobody looks.
      bytes[14] = 0xf0;
      put(table, 5, bytes);
      const { table: result, counts } = await rehash(table, to);
      expect(counts).toEqual({ bolted: 0, kept: 0, dropped: 0, notValid: 3 });
      expect(result.counts().notValid).toBe(0);
    }
  });

  describe.each([19, 20, 21])('to order %i', (to) => {
    const spoil = (what: 'page' | 'segment' | 'place', flags: bigint): [number, Buffer] => {
      const bytes = plainEntry(page, flags);
      if (what === 'page') bytes[14] = 0x20;
      if (what === 'segment') bytes[0] = 0x80;
      // One PTEG beyond what the offset bits that 64 KiB pages imply can reach.
      return [what === 'place' ? home ^ (128 * 8) : home, bytes];
    };
    const attempt = (what: 'page' | 'segment' | 'place', flags: bigint, options: RehashOptions) => {
      const table = new HashPageTable(20);
      const [index, bytes] = spoil(what, flags);
      put(table, index, bytes);
      return { index, result: rehash(table, to, options) };
    };
    const codes = { page: 'E_HPTE', segment: 'E_HPTE', place: 'E_PLACEMENT' } as const;

    test.each(['page', 'segment', 'place'] as const)('a wrong %s ends it', async (what) => {
      for (const [flags, likeKernel] of [
        [0n, false],
        [BOLTED, false],
        [BOLTED, true],
      ] as const) {
        const { index, result } = attempt(what, flags, { likeKernel });
        const error = await failure(result);
        expect(error).toMatchObject({ name: 'FormatError', code: codes[what] });
        expect(error.message).toMatch(new RegExp(`\\bslot ${index}\\b`));
      }
    });

    test('like the kernel: of the others nothing but the page size counts', async () => {
      for (const what of ['segment', 'place'] as const) {
        const { counts } = await attempt(what, 0n, { likeKernel: true }).result;
        expect(counts).toEqual({ bolted: 0, kept: 0, dropped: 1, notValid: 0 });
      }
      const error = await failure(attempt('page', 0n, { likeKernel: true }).result);
      expect(error.code).toBe('E_HPTE');
    });
  });

  test('an order that no table can have', async () => {
    for (const bad of [17, 47, 20.5, Number.NaN]) {
      const error = await failure(rehash(new HashPageTable(20), bad));
      expect(error).toMatchObject({ name: 'UsageError', code: 'E_ORDER' });
    }
  });

  describe('real tables', () => {
    const read = async (file: string): Promise<HashPageTable> => {
      await using input = await openHpt(fixtureUrl(file).pathname);
      return await input.table();
    };

    test.each(['kvm/h8-guest.htab.gz', 'kvm/l9dis-guest.htab.gz', 'qemu/linux-p9-hash.mig.gz'])(
      '%s: larger and back',
      async (file) => {
        const table = await read(file);
        const { valid, bolted } = table.counts();
        for (const to of [table.order, table.order + 1, 30, 46]) {
          const there = await rehash(table, to);
          expect(there.counts).toEqual({ bolted, kept: valid - bolted, dropped: 0, notValid: 0 });
          const back = await rehash(there.table, table.order);
          expect(back.table.equals(table)).toBe(true);
          const kernel = await rehash(table, to, { likeKernel: true });
          expect(kernel.counts).toEqual({ bolted, kept: 0, dropped: valid - bolted, notValid: 0 });
          expect(kernel.table.counts().valid).toBe(bolted);
        }
      },
    );

    test('smaller, until two bolted entries meet', async () => {
      const table = await read('kvm/h8-guest.htab.gz');
      const { counts } = await rehash(table, 21);
      expect(counts).toEqual({ bolted: 16392, kept: 29, dropped: 7, notValid: 0 });
      for (const likeKernel of [false, true]) {
        expect(await failure(rehash(table, 20, { likeKernel }))).toMatchObject({
          code: 'E_COLLISION',
          actual: 'slots 128256 and 193792, both for slot 62720',
        });
      }
    });
  });

  describe('long work', () => {
    /** Every slot of the first PTEGs, of 1 TiB segments, 4 KiB pages. */
    const large = (order: number): HashPageTable => {
      const table = new HashPageTable(order);
      for (let vsid = 0n; vsid < 100n; vsid++) {
        for (let n = 0n; n < 2048n; n++) {
          const offset = n << 12n;
          const one = { b: 1, vsid, offset, base: 12, actual: 12, secondary: false } as const;
          const entry = { page: one, place: Number(vsid % 8n), bolted: false };
          put(table, slotIn(entry, order), bytesOf(entry));
        }
      }
      return table;
    };

    test.each([
      [26, 28],
      [26, 24],
    ])('from order %i to %i: the event loop goes on, and an abort is heeded', async (from, to) => {
      const table = large(from);
      let turns = 0;
      const timer = setInterval(() => turns++, 0);
      const { counts } = await rehash(table, to);
      clearInterval(timer);
      expect(turns).toBeGreaterThan(0);
      const { bolted, kept, dropped } = counts;
      expect(bolted + kept + dropped).toBe(table.counts().valid);

      const controller = new AbortController();
      const work = failure(rehash(table, to, { signal: controller.signal }));
      setImmediate(() => controller.abort(new Error('enough')));
      expect(await work).toMatchObject({ code: 'E_ABORTED', cause: new Error('enough') });
      expect(await failure(rehash(table, to, { signal: AbortSignal.abort() }))).toMatchObject({
        name: 'AbortedError',
      });
    });
  });
});
