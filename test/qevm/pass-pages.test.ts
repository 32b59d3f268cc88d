import { open } from 'node:fs/promises';
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Addon } from '../../src/addon/load.js';
import { ByteReader } from '../../src/bytes/reader.js';
import { type ByteSource, FileSource, openFile, SliceSource } from '../../src/bytes/source.js';
import { SpaprHtabError } from '../../src/errors.js';
import type { PayloadContext, StreamWarning } from '../../src/qevm/elements.js';
import { type RamItem, RamWalker } from '../../src/qevm/ram.js';
import { readStream, type StreamOptions } from '../../src/qevm/stream.js';
import { describeStream } from '../../src/snapshot/describe.js';
import { addon, MIB, useAddon } from '../bytes/support.js';
import { CONTAINERS, fixturesOf, load } from '../helpers/fixtures.js';
import { collect, scratchFile } from '../helpers/sources.js';
import { end, header, part, ram, start, str8, tail, u16, u32, u64 } from '../helpers/stream.js';

/** Where the addon passes over pages at all. */
const HELPS = process.platform === 'linux';
/** Windows so small that the addon is asked about small files too: of streams, and of `ram` alone. */
const SMALL = { piece: 32 * 1024 };
const SMALLEST = { piece: 8 * 1024 };
const FOOTERS = { footers: true };

afterEach(() => vi.restoreAllMocks());

type Walk = ReturnType<typeof spy>;
const spy = () => vi.spyOn(addon() as Required<Addon>, 'walkPages');

/** Bytes that the addon passed over in all its calls. */
async function passed(walk: Walk): Promise<number> {
  const results = await Promise.all(walk.mock.results.map(({ value }) => value));
  return results.reduce(
    (sum, { position }, call) => sum + position - (walk.mock.calls[call]?.[1] ?? 0),
    0,
  );
}

/** What a job gives or fails with, as plain data. */
async function outcome(job: () => Promise<unknown>): Promise<unknown> {
  try {
    return { result: await job() };
  } catch (error) {
    if (!(error instanceof SpaprHtabError)) throw error;
    const { name, code, offset, path, expected, actual, message } = error;
    return { name, code, offset, path, expected, actual, message };
  }
}

/** Events, payloads apart, and what all of it is. */
async function walked(source: ByteSource, options: StreamOptions): Promise<unknown> {
  const events: unknown[] = [];
  const told = await outcome(async () => {
    for await (const event of readStream(source, options)) events.push({ ...event });
  });
  return { events, told, info: await outcome(() => describeStream(source, options)) };
}

/** The same job with and without the addon. */
async function bothWays(job: () => Promise<unknown>): Promise<unknown> {
  useAddon(false);
  const without = await job();
  useAddon(true);
  expect(await job()).toEqual(without);
  return without;
}

const STREAMS = [
  ...fixturesOf('snapshot').map((fixture) => ({ fixture, file: fixture.file, offset: 0 })),
  ...CONTAINERS.filter(({ container }) => container === 'stream').map((fixture) => ({
    fixture,
    file: fixture.file,
    offset: fixture.offset,
  })),
];

describe.runIf(HELPS)('a walk with the addon is the same as one without', () => {
  test.each(STREAMS)('$file', async ({ fixture, offset }) => {
    const path = scratchFile('stream', load(fixture));
    const walk = spy();
    await using file = await openFile(path);
    await bothWays(() => walked(file, { start: offset }));
    await bothWays(() => walked(file, { start: offset, ...SMALL }));
    await using inside = new SliceSource(file, offset, undefined, false);
    await bothWays(() => walked(inside, SMALL));
    // A window of a few entries is used up by any run of pages.
    const { ram } = await describeStream(file, { start: offset });
    const plain = ram.reduce((sum, { pages, mapped }) => sum + (mapped ? 0 : pages), 0);
    expect(plain < 20 || (await passed(walk)) > 0, `${plain} pages`).toBe(true);
  });

  // Pages of mapped-ram are not walked.
  const walkable = STREAMS.filter(
    ({ file }) => !/mapped-ram(-multifd-live|-offset)?\.mig/.test(file),
  );

  test.each(walkable)('$file, cut off', async ({ fixture, offset }) => {
    const bytes = load(fixture);
    const path = scratchFile('stream', bytes);
    await using file = await openFile(path);
    for (const share of [0.31, 0.57, 0.73, 0.93]) {
      const length = offset + Math.floor((bytes.length - offset) * share);
      await using cut = new SliceSource(file, 0, length, false);
      await bothWays(() => walked(cut, { start: offset, ...SMALL }));
    }
  });
});

type Entry = readonly [kind: keyof typeof ENTRIES, times: number];

const BLOCKS = [
  { name: 'a', length: 0x10000 },
  { name: 'bb', length: 0x3000 },
] as const;

/** Payload bytes of an entry, by kind. Addresses lie in both blocks unless they are to be wrong. */
const ENTRIES = {
  page: () => Buffer.concat([u64(0x2028), Buffer.alloc(4096, u64(0x28))]),
  zero: () => Buffer.concat([u64(0x1022), Buffer.of(0)]),
  filled: () => Buffer.concat([u64(0x22), Buffer.of(0x77)]),
  inTheFirst: () => Buffer.concat([u64(0x4028), Buffer.alloc(4096)]),
  named: () => Buffer.concat([u64(0x1008), str8('a'), Buffer.alloc(4096, 1)]),
  namedOther: () => Buffer.concat([u64(0x2002), str8('bb'), Buffer.of(0)]),
  unknown: () => Buffer.concat([u64(0x1008), str8('c'), Buffer.alloc(4096)]),
  xbzrle: () => Buffer.concat([u64(0x1060), Buffer.of(1), u16(5), Buffer.alloc(5, 2)]),
  compressed: () => Buffer.concat([u64(0x1120), u32(70), Buffer.alloc(70, 3)]),
  flush: () => u64(0x200),
  beyond: () => Buffer.concat([u64((2n ** 63n) | 0x28n), Buffer.alloc(4096)]),
  nonsense: () => u64(0x800),
  end: () => u64(0x10),
} as const;

const list = Buffer.concat([
  u64(BigInt(BLOCKS[0].length + BLOCKS[1].length) | 4n),
  ...BLOCKS.flatMap(({ name, length }) => [str8(name), u64(length)]),
]);

const payload = (entries: readonly Entry[]): Buffer =>
  Buffer.concat([
    list,
    ENTRIES.named(),
    ...entries.map(([kind, times]) => {
      const one = ENTRIES[kind]();
      return Buffer.alloc(one.length * times, one);
    }),
    u64(0x10),
  ]);

interface RamWalk {
  readonly items: unknown[];
  readonly warnings: StreamWarning[];
  readonly told: unknown;
  readonly offset: number;
  readonly blocks: RamWalker['blocks'];
}

/** A walk over one payload. How often it gives a sign of life is its own affair. */
async function walkRam(
  source: ByteSource,
  options: StreamOptions = {},
  onPages: () => Promise<void> = async () => undefined,
): Promise<RamWalk> {
  const reader = new ByteReader(source, { ...SMALLEST, ...options });
  const walker = new RamWalker();
  const warnings: StreamWarning[] = [];
  const context: PayloadContext = {
    kind: 'part',
    section: { id: 2, name: 'ram', instance: 0, version: 4 },
    capabilities: new Set(),
    postcopyAdvised: false,
    streamOffset: 0,
    warn: (warning) => warnings.push(warning),
  };
  const items: RamItem[] = [];
  const told = await outcome(async () => {
    for await (const item of walker.walk(reader, context)) {
      if (item.type === 'pages') await onPages();
      else if (item.type === 'eos') items.push(item);
      else expect(item.blocks).toBe(walker.blocks);
    }
  });
  return { items, warnings, told, offset: reader.offset, blocks: walker.blocks };
}

describe.runIf(HELPS)('payloads of every kind', () => {
  const rare = Object.keys(ENTRIES) as Entry[0][];
  const entry: fc.Arbitrary<Entry> = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.tuple(fc.constant('page' as const), fc.integer({ max: 60, min: 1 })),
    },
    {
      weight: 4,
      arbitrary: fc.tuple(fc.constant('zero' as const), fc.integer({ max: 9000, min: 1 })),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.constantFrom(...rare.slice(0, 10)), fc.integer({ max: 9, min: 1 })),
    },
    { weight: 1, arbitrary: fc.tuple(fc.constantFrom(...rare), fc.constant(1)) },
  );
  const share = fc.double({ min: 0, max: 1, noNaN: true });

  test('give the same items, counts, warnings and errors, cut and changed at any place', async () => {
    const walk = spy();
    const codes = new Set<unknown>();
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { minLength: 1, maxLength: 14 }),
        fc.array(fc.tuple(share, fc.nat(255)), { maxLength: 2 }),
        fc.option(share, { freq: 3 }),
        fc.nat(5000),
        async (entries, changes, cut, lead) => {
          const bytes = payload(entries);
          // Near the words, where it matters.
          for (const [where, value] of changes)
            bytes[Math.floor(where * (bytes.length - 1))] = value;
          const length = cut === null ? bytes.length : Math.floor(cut * bytes.length);
          const path = scratchFile('payload', Buffer.concat([Buffer.alloc(lead), bytes]));
          await using file = await openFile(path);
          await using slice = new SliceSource(file, lead, length, false);
          const { told } = (await bothWays(() => walkRam(slice))) as RamWalk;
          codes.add((told as { code?: string }).code);
          const whole = scratchFile('payload', bytes.subarray(0, length));
          await using truncated = await openFile(whole);
          await bothWays(() => walkRam(truncated));
        },
      ),
      { numRuns: 250 },
    );
    expect(codes).toEqual(new Set([undefined, 'E_RAM', 'E_TRUNCATED']));
    expect(await passed(walk)).toBeGreaterThan(2 * MIB);
  });

  test('every byte of words and fills, changed in every way that has a name', async () => {
    const entries: Entry[] = [
      ['page', 12],
      ['zero', 5],
      ['page', 12],
    ];
    const bytes = payload(entries);
    const word = list.length + ENTRIES.named().length + 9 * ENTRIES.page().length;
    const path = scratchFile('changed', bytes);
    await using writing = await open(path, 'r+');
    for (let at = word; at < word + 3 * ENTRIES.page().length + 9; at++) {
      // Inside pages, nothing is looked at.
      if (at % 509 !== 0 && (at - word) % ENTRIES.page().length > 10) continue;
      for (const bit of [0, 1, 3, 4, 5, 6, 7]) {
        await writing.write(Buffer.of((bytes[at] ?? 0) ^ (1 << bit)), 0, 1, at);
        await using file = await openFile(path);
        await bothWays(() => walkRam(file));
      }
      await writing.write(bytes, at, 1, at);
    }
  });

  test('a file that is shorter or longer by then', async () => {
    const bytes = payload([['page', 40]]);
    await using short = new FileSource(
      'short',
      await open(scratchFile('short', bytes.subarray(0, 90_000))),
      bytes.length,
    );
    expect(await bothWays(() => walkRam(short))).toMatchObject({ told: { code: 'E_TRUNCATED' } });
    // As it grew since it was opened; a part of it does not.
    await using long = new FileSource('long', await open(scratchFile('long', bytes)), 90_000);
    expect(await bothWays(() => walkRam(long))).toMatchObject({ told: { result: undefined } });
    await using part = new SliceSource(long, 0, undefined, false);
    expect(await bothWays(() => walkRam(part))).toMatchObject({ told: { code: 'E_TRUNCATED' } });
  });

  test('a stream above 4 GiB in its file', async () => {
    const bytes = payload([
      ['page', 40],
      ['zero', 9000],
    ]);
    const at = 2 ** 32 + 777;
    const path = scratchFile('high');
    await using writing = await open(path, 'w');
    await writing.write(bytes, 0, bytes.length, at);
    const walk = spy();
    await using file = await openFile(path);
    const { blocks } = (await bothWays(() => walkRam(file, { start: at }))) as RamWalk;
    expect(blocks).toMatchObject([{ name: 'a', pages: 41, zeroPages: 9000 }, { name: 'bb' }]);
    expect(await passed(walk)).toBeGreaterThan((2 * MIB) / 16);
  });
});

/** A stream with so many pages in one part. */
const guest = (pages: number): Buffer =>
  Buffer.concat([
    header(),
    start(2, 'ram', 4, ram.setup('r', 2 ** 30), FOOTERS),
    part(2, ram.round('r', pages), FOOTERS),
    end(2, ram.empty, FOOTERS),
    tail([]),
  ]);

describe.runIf(HELPS)('the addon', () => {
  test('is not asked for small files, or where somebody wants the bytes', async () => {
    const walk = spy();
    const bytes = guest(1000);
    await using smallest = await openFile(scratchFile('smallest', guest(300)));
    await describeStream(smallest);
    await using small = await openFile(scratchFile('small', bytes));
    const pieces: Buffer[] = [];
    for await (const event of readStream(small, SMALL)) {
      if (event.type === 'section' && event.kind === 'part')
        pieces.push(await collect(event.bytes()));
    }
    expect(Buffer.concat(pieces).equals(ram.round('r', 1000))).toBe(true);
    expect(walk).not.toHaveBeenCalled();
    await describeStream(small, SMALL);
    expect(walk).toHaveBeenCalled();
  });

  test('is not asked about a class that reads in its own way', async () => {
    class Own extends FileSource {}
    const walk = spy();
    const bytes = guest(100);
    await using own = new Own('own', await open(scratchFile('own', bytes)), bytes.length);
    await describeStream(own, SMALL);
    expect(walk).not.toHaveBeenCalled();
  });

  test('may be an older one, which does not pass over pages', async () => {
    await using file = await openFile(scratchFile('old', guest(1000)));
    const info = await describeStream(file, SMALL);
    const own = addon() as { walkPages?: unknown };
    const { walkPages } = own;
    delete own.walkPages;
    try {
      expect(await describeStream(file, SMALL)).toEqual(info);
    } finally {
      own.walkPages = walkPages;
    }
    expect(info.ram).toMatchObject([{ pages: 500, zeroPages: 500 }]);
  });

  test('is asked less and less often where it gets nowhere', async () => {
    const bytes = payload([
      ['page', 20],
      ['xbzrle', 200_000],
      ['page', 300],
    ]);
    await using file = await openFile(scratchFile('changes', bytes));
    const walk = spy();
    await walkRam(file);
    const windows = bytes.length / (2 * SMALLEST.piece);
    expect(windows).toBeGreaterThan(200);
    expect(walk.mock.calls.length).toBeLessThan(20);
    // And again when there are pages.
    await using pages = await openFile(scratchFile('pages', payload([['page', 2000]])));
    await walkRam(pages);
    expect(await passed(walk)).toBeGreaterThan(4 * MIB);
  });

  test('tells progress at every step, in order, up to the end', async () => {
    const bytes = guest(80_000);
    await using file = await openFile(scratchFile('steps', bytes));
    const walk = spy();
    const positions: number[] = [];
    await describeStream(file, {
      onProgress: ({ position, total }) => {
        expect(total).toBe(bytes.length);
        positions.push(position);
      },
    });
    expect(positions).toEqual([...positions].sort((a, b) => a - b));
    expect(positions.at(-1)).toBe(bytes.length);
    // 160 MiB in steps of 64.
    expect(walk.mock.calls.length).toBe(3);
    expect(positions.filter((position) => position > 32 * MIB).length).toBeGreaterThanOrEqual(3);
    for (let i = 1; i < positions.length; i++) {
      expect((positions[i] ?? 0) - (positions[i - 1] ?? 0)).toBeLessThanOrEqual(64 * MIB);
    }
  });

  test('does not keep an abort waiting, nor a file from being closed', async () => {
    const file = await openFile(scratchFile('abort', guest(40_000)));
    const walk = spy();
    const controller = new AbortController();
    walk.mockImplementation((_fd, position) => {
      // One that takes as long as it likes.
      queueMicrotask(() => controller.abort());
      return new Promise((resolve) =>
        setTimeout(() => resolve({ position, pages: 0, zeroPages: 0 }), 50),
      );
    });
    let settled = false;
    const describing = describeStream(file, { signal: controller.signal });
    await expect(describing).rejects.toMatchObject({ code: 'E_ABORTED' });
    void walk.mock.results[0]?.value.then(() => {
      settled = true;
    });
    expect(settled).toBe(false);
    await file.close();
    expect(settled).toBe(true);
    expect(walk).toHaveBeenCalledTimes(1);
  });

  test('says that a file is closed as a read does', async () => {
    const path = scratchFile('closed', payload([['page', 1000]]));
    const { told } = (await bothWays(async () => {
      const file = await openFile(path);
      return walkRam(file, {}, () => file.close());
    })) as RamWalk;
    expect(told).toMatchObject({ code: 'E_IO', actual: 'EBADF' });
  });
});
