import fc from 'fast-check';
import { BufferSource } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { MemoryFile } from '../../src/memory/memory-file.js';
import { type ReadRamOptions, readRam } from '../../src/memory/read-ram.js';
import { SOURCE_KINDS } from '../helpers/sources.js';
import { u32, u64 } from '../helpers/stream.js';
import {
  contentOf,
  entries,
  guest,
  memory,
  PAGE,
  pageOf,
  postcopyAdvise,
  WatchedFile,
} from './guests.js';

const RAM = 'ppc_spapr.ram';

async function read(bytes: Buffer, options: ReadRamOptions = {}) {
  const file = new WatchedFile();
  const result = await readRam(new BufferSource(bytes), options, file);
  return { file, result, content: await contentOf(file) };
}

/** Every kind of entry, pages overwritten within a round and in later rounds. */
const everything = guest([
  [
    entries.page(0, pageOf(1), RAM),
    entries.page(1, pageOf(2)),
    entries.zero(2),
    entries.zero(3),
    entries.page(4, pageOf(3)),
    entries.zero(5, 0x77),
    entries.compressed(6, pageOf(4)),
    entries.page(9, pageOf(5)),
    entries.page(9, pageOf(6)),
    entries.flush,
  ],
  [
    // CONTINUE refers to the block of the round before. 4 bytes stay, 2 are new.
    entries.xbzrle(1, Buffer.of(4, 2, 0xab, 0xcd)),
    entries.page(15, pageOf(7)),
    entries.xbzrle(15, Buffer.of(0, 1, 0xff)),
    entries.xbzrle(8, Buffer.of(1, 1, 0x42)),
    entries.zero(4),
  ],
  [entries.zero(0, 0, RAM), entries.page(2, pageOf(8)), entries.compressed(9, pageOf(9))],
]);
const page1 = pageOf(2);
page1.set([0xab, 0xcd], 4);
const page8 = Buffer.alloc(PAGE);
page8[1] = 0x42;
const page15 = pageOf(7);
page15[0] = 0xff;
const everythingIs = memory(16, {
  1: page1,
  2: pageOf(8),
  5: Buffer.alloc(PAGE, 0x77),
  6: pageOf(4),
  8: page8,
  9: pageOf(9),
  15: page15,
});

describe('readRam', () => {
  test.each(SOURCE_KINDS)('the last entry of each page counts, from a $name', async ({ open }) => {
    await using source = await open(everything);
    const file = new MemoryFile();
    const result = await readRam(source, {}, file);
    expect(Buffer.compare(await contentOf(file), everythingIs)).toBe(0);
    expect(result).toMatchObject({
      machine: 'pseries-7.2',
      block: RAM,
      chosenBy: 'default',
      size: 16 * PAGE,
      pages: 7,
      zeroPages: 5,
      xbzrlePages: 3,
      compressedPages: 2,
      mapped: false,
      bitmapByteOrder: undefined,
    });
    expect(result.blocks).toHaveLength(1);
    expect(result.warnings.filter(({ code }) => code === 'W_ZERO_FILL')).toHaveLength(1);
  });

  test('a stream that begins further on', async () => {
    const { content } = await read(Buffer.concat([Buffer.alloc(777), everything]), { start: 777 });
    expect(Buffer.compare(content, everythingIs)).toBe(0);
  });

  test('zero pages are written only over something else', async () => {
    const { file, content } = await read(
      guest([
        [entries.zero(0, 0, RAM), entries.zero(1), entries.page(2, pageOf(1)), entries.zero(3)],
        [entries.zero(1), entries.zero(2), entries.zero(3)],
        [entries.zero(2)],
      ]),
    );
    expect(file.writes).toEqual([
      [2 * PAGE, PAGE],
      [2 * PAGE, PAGE],
    ]);
    expect(content.equals(Buffer.alloc(16 * PAGE))).toBe(true);
  });

  test('neighbouring pages are one write', async () => {
    const pages = Array.from({ length: 16 }, (_, i) =>
      entries.page(i, pageOf(i + 1), i === 0 ? RAM : undefined),
    );
    // At the end of a file the window holds less than an entry can have.
    const after = [1, 2, 3].map((page) => entries.page(page, pageOf(page)));
    const { file } = await read(guest([pages, after]));
    expect(file.writes[0]).toEqual([0, 16 * PAGE]);
  });

  test('RAM of nothing but zeros is one hole', async () => {
    const { file, content } = await read(guest([[entries.zero(0, 0, RAM)]]));
    expect(file.writes).toEqual([]);
    expect(content.equals(Buffer.alloc(16 * PAGE))).toBe(true);
  });

  test('a file that is not empty is emptied', async () => {
    const file = new MemoryFile();
    await file.write(Buffer.alloc(40 * PAGE, 0xff), 0);
    await readRam(new BufferSource(everything), {}, file);
    expect(Buffer.compare(await contentOf(file), everythingIs)).toBe(0);
  });

  const anyEntry = fc.record({
    kind: fc.constantFrom('page', 'zero', 'fill', 'xbzrle', 'compressed'),
    block: fc.constantFrom(RAM, 'other'),
    page: fc.nat(11),
    mark: fc.integer({ min: 1, max: 255 }),
    sameRound: fc.boolean(),
  });

  test('any sequence of entries gives what plain memory gives', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyEntry, { maxLength: 60 }), async (list) => {
        const plain = { [RAM]: Buffer.alloc(12 * PAGE), other: Buffer.alloc(12 * PAGE) };
        const rounds: Buffer[][] = [[]];
        let last: string | undefined;
        for (const { kind, block, page, mark, sameRound } of list) {
          const name = block === last ? undefined : block;
          last = block;
          const memory = plain[block as keyof typeof plain];
          const target = memory.subarray(page * PAGE, page * PAGE + PAGE);
          if (!sameRound) rounds.push([]);
          const round = rounds.at(-1) ?? [];
          if (kind === 'page' || kind === 'compressed') {
            round.push(entries[kind](page, pageOf(mark), name));
            target.set(pageOf(mark));
          } else if (kind === 'xbzrle') {
            round.push(entries.xbzrle(page, Buffer.of(mark & 0x7f, 2, mark, 0), name));
            target.set([mark, 0], mark & 0x7f);
          } else {
            round.push(entries.zero(page, kind === 'fill' ? mark : 0, name));
            target.fill(kind === 'fill' ? mark : 0);
          }
        }
        const blocks = [
          ['other', 12],
          [RAM, 12],
        ] as const;
        const bytes = guest(rounds, { blocks });
        for (const block of [RAM, 'other'] as const) {
          const { content } = await read(bytes, { block });
          expect(Buffer.compare(content, plain[block])).toBe(0);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('which block', () => {
  const blocks = [
    ['small', 2],
    ['large', 8],
    ['large too', 8],
  ] as const;
  const bytes = guest(
    [[entries.page(1, pageOf(1), 'small'), entries.page(1, pageOf(2), 'large')]],
    {
      blocks,
    },
  );

  test('the largest, without ppc_spapr.ram', async () => {
    const { result, content } = await read(bytes);
    expect(result).toMatchObject({ block: 'large', chosenBy: 'size', pages: 1, size: 8 * PAGE });
    expect(content.equals(memory(8, { 1: pageOf(2) }))).toBe(true);
  });

  test('ppc_spapr.ram before a larger one', async () => {
    const { result } = await read(
      guest([[]], {
        blocks: [
          ['dimm0', 9],
          [RAM, 4],
        ],
      }),
    );
    expect(result).toMatchObject({ block: RAM, chosenBy: 'default', size: 4 * PAGE });
  });

  test('the one that is named', async () => {
    const { result, content } = await read(bytes, { block: 'small' });
    expect(result).toMatchObject({ block: 'small', chosenBy: 'name' });
    expect(content.equals(memory(2, { 1: pageOf(1) }))).toBe(true);
  });

  test('a name that is not there: the error lists those that are', async () => {
    await expect(read(bytes, { block: 'medium' })).rejects.toMatchObject({
      name: 'UsageError',
      code: 'E_BLOCK',
      message: expect.stringContaining("'small', 'large', 'large too'"),
    });
  });
});

describe('dialects of the block list', () => {
  test('page sizes of huge pages, with the postcopy capability', async () => {
    const blocks = [
      ['huge', 512],
      [RAM, 16],
    ] as const;
    const { result, content } = await read(
      guest([[entries.page(3, pageOf(1), RAM)]], {
        blocks,
        commands: postcopyAdvise,
        behindLength: (name) => (name === 'huge' ? u64(2 ** 21) : Buffer.alloc(0)),
      }),
    );
    expect(result.blocks.map(({ pageSize }) => pageSize)).toEqual([2 ** 21, undefined]);
    expect(content.equals(memory(16, { 3: pageOf(1) }))).toBe(true);
  });

  const sharing = {
    blocks: [
      ['shared', 16],
      ['private', 4],
    ] as const,
    capabilities: ['x-ignore-shared'],
    behindLength: (name: string) => u64(name === 'shared' ? 0 : 0x1000000),
  };
  const shared = guest([[entries.page(3, pageOf(1), 'private')]], sharing);

  test('shared memory is not in the stream, and it is said where it is', async () => {
    await expect(read(shared)).rejects.toMatchObject({
      name: 'UnsupportedError',
      code: 'E_UNSUPPORTED',
      message: expect.stringContaining('backend'),
    });
  });

  test('other blocks are, beside shared memory', async () => {
    const { result, content } = await read(shared, { block: 'private' });
    expect(result.blocks[1]?.address).toBe(0x1000000n);
    expect(content.equals(memory(4, { 3: pageOf(1) }))).toBe(true);
  });
});

describe('what is wrong', () => {
  test('an XBZRLE page', async () => {
    const bytes = guest([
      [entries.page(1, pageOf(1), RAM)],
      [entries.xbzrle(1, Buffer.of(9, 0, 1)), entries.page(2, pageOf(2))],
    ]);
    const at = bytes.indexOf(Buffer.of(1, 0, 3, 9, 0, 1)) + 4;
    await expect(read(bytes)).rejects.toMatchObject({ code: 'E_RAM', offset: at });
  });

  test.each([
    ['no zlib stream', Buffer.from('this is none')],
    ['less than a page', Buffer.from(entries.compressed(0, Buffer.alloc(4095)).subarray(12))],
    ['more than a page', Buffer.from(entries.compressed(0, Buffer.alloc(4097)).subarray(12))],
    ['cut off', Buffer.from(entries.compressed(0, pageOf(1)).subarray(12, -5))],
  ])('a compressed page: %s', async (_, data) => {
    const bytes = guest([[entries.page(0, pageOf(1), RAM), entries.packed(1, data)]]);
    const at = bytes.indexOf(data);
    await expect(read(bytes)).rejects.toMatchObject({
      name: 'FormatError',
      code: 'E_RAM',
      offset: at,
    });
  });

  test('a broken compressed page that was sent again is a warning', async () => {
    const broken = entries.packed(1, Buffer.from('broken'), RAM);
    for (const again of [entries.page(1, pageOf(3)), entries.compressed(1, pageOf(3))]) {
      const { result, content } = await read(guest([[broken], [again]]));
      expect(content.equals(memory(16, { 1: pageOf(3) }))).toBe(true);
      expect(result.warnings.map(({ code }) => code)).toEqual(['W_BROKEN_PAGES']);
    }
    const { result } = await read(guest([[broken, entries.zero(1)]]));
    expect(result.warnings.map(({ code }) => code)).toEqual(['W_BROKEN_PAGES']);
  });

  test('a change to a broken compressed page', async () => {
    const bytes = guest([
      [entries.packed(1, Buffer.from('broken'), RAM), entries.xbzrle(1, Buffer.of(0, 1, 5))],
    ]);
    await expect(read(bytes)).rejects.toMatchObject({ offset: bytes.indexOf('broken') });
  });

  test('a page beyond its block', async () => {
    const bytes = guest([[entries.page(0, pageOf(1), RAM)], [entries.zero(16)]]);
    await expect(read(bytes)).rejects.toMatchObject({
      code: 'E_RAM',
      message: expect.stringContaining('beyond'),
    });
  });

  test('the file ends in a page', async () => {
    const bytes = guest([[entries.page(0, pageOf(1), RAM)]]);
    const cut = bytes.subarray(0, bytes.indexOf(pageOf(1)) + 100);
    await expect(read(cut)).rejects.toMatchObject({ code: 'E_TRUNCATED' });
  });

  test('shared memory with mapped-ram has neither bitmap nor pages', async () => {
    const bytes = guest([[]], {
      capabilities: ['x-ignore-shared', 'mapped-ram'],
      // u64 address, then the header: u32 version, u64 page size, u64 and u64 positions.
      behindLength: () => Buffer.concat([u64(0), u32(1), u64(PAGE), u64(0), u64(0)]),
    });
    await expect(read(bytes)).rejects.toMatchObject({ code: 'E_UNSUPPORTED' });
  });

  test('a stream without RAM', async () => {
    const bytes = Buffer.concat([Buffer.from('QEVM'), Buffer.of(0, 0, 0, 3), Buffer.of(0)]);
    await expect(read(bytes)).rejects.toMatchObject({ code: 'E_NO_SECTION' });
  });

  test('the signal', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(read(everything, { signal })).rejects.toMatchObject({ code: 'E_ABORTED' });
  });
});
