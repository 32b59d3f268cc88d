import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SoftwareDescriptor } from '../../src/fd/software/descriptor.js';
import { SoftwareHtab } from '../../src/fd/software/vm.js';
import { NaiveHtab, type NaiveReader } from './naive.js';
import { answer, apply, block, drain, type Entry, put, R, read, V } from './software-support.js';

const SLOTS = 16384;
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

/** Entries that are mostly valid and sometimes of every other kind. */
const entry: fc.Arbitrary<Entry> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(u64, u64, fc.nat(15))
      .map(
        ([v, r, how]): Entry => [
          (v & 0x7ffffffffffffff3n) | (how === 0 ? 0n : 1n),
          how < 12 ? r & 0xf000000007fffe7fn : r,
        ],
      ),
  },
  // Large pages, known encodings and others.
  {
    weight: 2,
    arbitrary: fc
      .tuple(u64, u64, fc.constantFrom(0, 1, 3, 7, 8, 0x11, 0x38, 0x23, 0xff))
      .map(
        ([v, r, lp]): Entry => [
          (v & 0x7fffffffffffffffn) | 5n,
          (r & 0x7f00fffn) | (BigInt(lp) << 12n),
        ],
      ),
  },
  { weight: 1, arbitrary: fc.tuple(u64, u64).map(([v, r]): Entry => [v, r]) },
);

/** Slots that are often the same, near the ends of pages and of the table. */
const slot = fc.oneof(
  fc.nat(20),
  fc.integer({ min: 250, max: 262 }),
  fc.nat(SLOTS + 2),
  fc.integer({ min: SLOTS - 9, max: SLOTS }),
);
const oneBlock = fc
  .tuple(slot, fc.array(entry, { maxLength: 6 }), fc.oneof(fc.nat(6), fc.nat(600)))
  .map(([index, entries, nInvalid]) => block(index, entries, nInvalid));

type Step =
  | { readonly do: 'write'; readonly bytes: Buffer; readonly cut: number; readonly map: number }
  | { readonly do: 'read'; readonly who: number; readonly length: number; readonly mapped: number }
  | { readonly do: 'open'; readonly start: number; readonly bolted: boolean }
  | { readonly do: 'close'; readonly who: number }
  | { readonly do: 'allocate'; readonly order: number }
  | { readonly do: 'touch'; readonly slot: number; readonly store: boolean };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      bytes: fc
        .array(oneBlock, { minLength: 1, maxLength: 3, size: 'small' })
        .map((list) => Buffer.concat(list)),
      cut: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(40)),
      map: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, fc.integer({ min: -20, max: 40 })),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      who: fc.nat(),
      length: fc.oneof(fc.nat(130), fc.integer({ min: 25, max: 60 }), fc.nat(70000)),
      mapped: fc.oneof({ weight: 5, arbitrary: fc.constant(1 << 20) }, fc.nat(130)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('open' as const),
      start: fc.oneof(fc.constant(0), slot),
      bolted: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('close' as const), who: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('allocate' as const),
      order: fc.constantFrom(18, 18, 18, 19),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('touch' as const), slot, store: fc.boolean() }),
  },
);

async function compare(steps: readonly Step[], power9: boolean, kernel: boolean): Promise<void> {
  const memory = 128n << 20n;
  const vm = new SoftwareHtab({
    order: 18,
    host: power9 ? 'power9-hash' : 'power8',
    memory: [{ base: 0n, size: memory }],
    blocksPerWrite: kernel ? 'kernel' : 'documented',
  });
  const naive = new NaiveHtab(power9, memory);
  naive.allocate(18);
  const w = vm.descriptor({ write: true });
  const readers: { fd: SoftwareDescriptor; naive: NaiveReader }[] = [];
  const open = (start: number, bolted: boolean): void => {
    const fd = vm.descriptor({ startIndex: BigInt(start), boltedOnly: bolted });
    readers.push({ fd, naive: { index: BigInt(start), first: true, bolted } });
    naive.readers++;
  };
  for (const one of steps) {
    if (one.do === 'write') {
      const bytes = one.map < 0 ? one.bytes.subarray(0, one.map) : one.bytes;
      const around = Buffer.concat([bytes, Buffer.alloc(Math.max(0, one.map), one.map)]);
      const count = Math.max(0, one.bytes.length - one.cut);
      const expected = naive.write(around, count, kernel);
      expect(await answer(() => w.write(around, count))).toBe(expected);
    } else if (one.do === 'open') {
      open(one.start, one.bolted);
    } else if (one.do === 'allocate') {
      vm.allocate(one.order);
      naive.allocate(one.order);
    } else if (one.do === 'touch') {
      // The plain one has no fault handler: it leaves alone what is absent.
      vm.touch(one.slot, { store: one.store });
      naive.touch(one.slot, one.store);
    } else {
      const at = readers.length === 0 ? 0 : one.who % readers.length;
      const reader = readers[at];
      if (reader === undefined) continue;
      if (one.do === 'close') {
        await reader.fd.close();
        readers.splice(at, 1);
        naive.readers--;
      } else {
        const expected = naive.read(reader.naive, one.length, one.mapped);
        const got = await answer(() => reader.fd.read(one.length, one.mapped));
        expect(typeof got === 'string' ? got : Buffer.from(got).toString('hex')).toBe(
          typeof expected === 'string' ? expected : expected.toString('hex'),
        );
      }
    }
  }
  // In the end all that is left, to a reader of before and to a new one.
  open(0, false);
  for (const { fd, naive: reader } of readers) {
    for (let k = 0; k < 2; k++) {
      const expected = naive.read(reader, 1 << 20, 1 << 20);
      expect(Buffer.from(await fd.read(1 << 20))).toEqual(expected);
    }
  }
}

describe('any calls in any order, against a table of plain arrays', () => {
  test.each([
    [false, false],
    [false, true],
    [true, true],
  ])('POWER9 %s, mistakes of the kernel %s', async (power9, kernel) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), (steps) =>
        compare(steps, power9, kernel),
      ),
      { numRuns: 60 },
    );
  });
});

const goodEntry = fc
  .tuple(u64, u64)
  .map(([v, r]): Entry => [(v & 0x7ffffffffffffff2n) | 1n, r & ~(1n << 62n)]);
const goodBlock = fc
  .tuple(
    fc.integer({ min: 0, max: SLOTS - 700 }),
    fc.array(goodEntry, { maxLength: 8 }),
    fc.nat(600),
  )
  .map(([index, entries, nInvalid]) => block(index, entries, nInvalid));

/** Blocks as they come back: V and the lock bit, no ABSENT. */
function asRead(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let at = 0; at < copy.length; ) {
    const nValid = copy.readUInt16LE(at + 4);
    at += 8;
    for (let j = 0; j < nValid; j++, at += 16) copy[at + 7] = ((copy[at + 7] ?? 0) & ~0x20) | 0x41;
  }
  return copy;
}

test('a first pass and later passes make up the table, for any size of buffer', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(goodBlock, { maxLength: 12 }),
      fc.array(fc.tuple(goodBlock, fc.boolean()), { maxLength: 20 }),
      fc.oneof(fc.integer({ min: 25, max: 100 }), fc.integer({ min: 25, max: 70000 })),
      async (before, during, length) => {
        const vm = new SoftwareHtab({ order: 18 });
        const w = vm.descriptor({ write: true });
        const model = new Map<number, string>();
        const copy = new Map<number, string>();
        const write = async (bytes: Buffer): Promise<void> => {
          expect(await w.write(bytes)).toBe(bytes.length);
          apply(model, asRead(bytes));
        };
        for (const bytes of before) await write(bytes);
        const r = vm.descriptor();
        for (const [bytes, reads] of during) {
          await write(bytes);
          if (!reads) continue;
          const got = await r.read(length);
          expect(got.length < length).toBe(true);
          apply(copy, Buffer.from(got));
        }
        // Two passes: what changed behind the cursor comes in the second.
        for (let k = 0; k < 2; k++) apply(copy, (await drain(r, length)).bytes);
        expect(copy).toEqual(model);
        const table = await vm.table();
        expect(table?.counts().valid).toBe(model.size);
      },
    ),
    { numRuns: 60 },
  );
});

describe('large tables with little in them', () => {
  test('a first pass over an empty table of order 34', async () => {
    const { bytes, reads } = await drain(new SoftwareHtab({ order: 34 }).descriptor(), 1 << 20);
    expect([reads, bytes.length]).toEqual([1, 8 * 16385]);
    expect(bytes.readUInt32LE(bytes.length - 8)).toBe(16384 * 65535);
    expect(bytes.readUInt16LE(bytes.length - 2)).toBe(16384);
  });

  test('changes far from each other; later passes skip what lies between', async () => {
    const vm = new SoftwareHtab({ order: 36 });
    const w = vm.descriptor({ write: true });
    const r = vm.descriptor({ startIndex: 2n ** 32n });
    expect(await read(r, 25)).toBe('0');
    await put(w, 2 ** 32 - 1, V(3n), R(3n));
    await put(w, 5, V(1n), R(1n));
    await put(w, 2 ** 31, V(2n), R(2n));
    const entry = (n: number): string =>
      `${(n * 128 + 0x41).toString(16).padStart(16, '0')}:000000000000${n}192`;
    expect(await read(r, 41)).toBe(`24 [5 v1 i0] ${entry(1)}`);
    expect(await read(r, 4096)).toBe(
      `48 [2147483648 v1 i0] ${entry(2)} [4294967295 v1 i0] ${entry(3)}`,
    );
    vm.allocate(36);
    expect(await read(r, 4096)).toBe('0');
  });

  test('the largest table: an index has 32 bits', async () => {
    const vm = new SoftwareHtab({ order: 46 });
    const w = vm.descriptor({ write: true });
    expect(vm.hEnter(2 ** 42 - 1, V(1n), R(1n))).toBe('H_SUCCESS');
    const r = vm.descriptor({ startIndex: 2n ** 42n - 3n });
    const entry = '00000000000000c1:0000000000001192';
    expect(await read(r, 4096)).toBe(`32 [4294967293 v0 i2] [4294967295 v1 i0] ${entry}`);
    await put(w, 9, V(1n), R(1n));
    expect(await read(r, 4096)).toBe(`24 [9 v1 i0] ${entry}`);
    expect((await vm.table())?.get(2 ** 42 - 1)?.dw1).toBe(0x1192n);
  });

  test('long calls let the event loop go on, and keep their order', async () => {
    const vm = new SoftwareHtab({ order: 40 });
    const { w, r } = { w: vm.descriptor({ write: true }), r: vm.descriptor() };
    const seen: string[] = [];
    // 2^36 slots are 1048593 blocks.
    const long = r.read(2 ** 31).then((bytes) => seen.push(`read ${bytes.length}`));
    const next = put(w, 0, V(1n), R(1n)).then(() => seen.push('written'));
    const soon = new Promise((resolve) => setImmediate(resolve)).then(() => seen.push('loop'));
    await Promise.all([long, next, soon]);
    expect(seen).toEqual(['loop', `read ${8 * Math.ceil(2 ** 36 / 65535)}`, 'written']);
    expect(await read(r, 25)).toBe('24 [0 v1 i0] 00000000000000c1:0000000000001192');
    // What answers at once finishes what came before it.
    const other = vm.descriptor({ startIndex: 1n }).read(2 ** 31);
    vm.allocate(18);
    expect((await other).length).toBe(8 * Math.ceil((2 ** 36 - 1) / 65535));
    expect(vm.order).toBe(18);
  });
});
