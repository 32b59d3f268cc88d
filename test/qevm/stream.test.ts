import {
  BufferSource,
  type ByteSource,
  describeStream,
  encodeSection,
  readSnapshotHtab,
  readStream,
  SpaprHtabError,
  type StreamEvent,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { collect, SOURCE_KINDS } from '../helpers/sources.js';
import {
  chunk,
  configuration,
  end,
  full,
  header,
  hpte,
  htabPart,
  part,
  ram,
  smallGuest,
  start,
  str8,
  tail,
  u32,
  u64,
} from '../helpers/stream.js';

const FOOTERS = { footers: true };
const BARE = { footers: false };

async function eventsOf(source: ByteSource): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  for await (const event of readStream(source)) events.push(event);
  return events;
}

const htabOf = (bytes: Buffer): Promise<Buffer> =>
  collect(encodeSection(readSnapshotHtab(new BufferSource(bytes))));

const PAYLOADS = Buffer.concat([
  u32(18),
  htabPart(chunk(1, [hpte(1), hpte(2, 0x10)]), chunk(9, [hpte(3)], 4)),
  htabPart(chunk(2, [hpte(4)]), chunk(9, [], 1)),
]);

describe.each([
  ['footers and vmdesc', {}],
  ['no footers (pseries-2.3)', { footers: false }],
  ['footers only (suppress-vmdesc)', { vmdesc: false }],
  ['neither (pseries-2.1)', { footers: false, vmdesc: false }],
])('a stream with %s', (_name, dialect) => {
  const bytes = smallGuest(dialect);

  test.each(SOURCE_KINDS)('gives the same HPT from a $name', async ({ open, name }) => {
    await using source = await open(bytes);
    const items = readSnapshotHtab(source);
    expect((await collect(encodeSection(items))).equals(PAYLOADS), name).toBe(true);
  });

  test('names every section with its place', async () => {
    const info = await describeStream(new BufferSource(bytes));
    expect(info.sections.map((s) => s.name)).toEqual(['ram', 'spapr/htab', 'timer']);
    expect(info.sections.at(-1)?.length).toBe(24);
    const guessed = 'footers' in dialect && 'vmdesc' in dialect;
    expect(info.warnings.some((w) => w.code === 'W_LENGTH_GUESSED')).toBe(guessed);
    for (const section of info.sections) {
      for (const { payloadOffset, payloadLength } of section.parts) {
        expect(payloadOffset + payloadLength).toBeLessThanOrEqual(bytes.length);
      }
    }
    expect(info.hpt).toMatchObject({ order: 18, parts: 2, blocks: 4, passes: 2 });
    // Slots 1 (valid), 2 (replaced, no longer bolted), 9 (gone).
    expect(info.hpt).toMatchObject({ carried: 4, valid: 2, bolted: 0 });
    expect(info.ram).toMatchObject([{ name: 'ppc_spapr.ram', pages: 4, zeroPages: 4 }]);
  });
});

test('events tell where everything is, and payloads can be taken as bytes', async () => {
  const bytes = smallGuest();
  const taken: Buffer[] = [];
  const names: string[] = [];
  for await (const event of readStream(new BufferSource(bytes))) {
    names.push(event.type);
    if (event.type !== 'section') continue;
    const payload = await collect(event.bytes());
    const { payloadOffset } = event;
    expect(payload.equals(bytes.subarray(payloadOffset, payloadOffset + payload.length))).toBe(
      true,
    );
    if (event.section.name === 'spapr/htab') taken.push(payload);
  }
  expect(Buffer.concat(taken).equals(PAYLOADS)).toBe(true);
  expect(names[0]).toBe('header');
  expect(names.slice(-2)).toEqual(['eof', 'vmdesc']);
});

test('a payload that is left in the middle is walked to its end', async () => {
  let seen = 0;
  for await (const event of readStream(new BufferSource(smallGuest()))) {
    if (event.type === 'section-end') seen++;
    if (event.type !== 'section') continue;
    for await (const _ of event.bytes()) break;
  }
  expect(seen).toBe(7);
});

test('cut off at any byte: a typed error that names a place in the file, or the same HPT', async () => {
  for (const dialect of [{}, { footers: false }, { vmdesc: false }]) {
    const bytes = smallGuest(dialect);
    for (let length = 0; length < bytes.length; length++) {
      // Inside a page one place is like another.
      if (bytes[length] === 0x50 && bytes[length - 1] === 0x50 && length % 61 !== 0) continue;
      try {
        expect((await htabOf(bytes.subarray(0, length))).equals(PAYLOADS)).toBe(true);
      } catch (error) {
        if (!(error instanceof SpaprHtabError)) throw error;
        expect(error.offset).toBeLessThanOrEqual(length);
      }
    }
  }
});

test('every bit flip: a typed error or a result, never anything else', async () => {
  const bytes = smallGuest();
  // Page contents do not matter to the walk: the first page stands for all of them.
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === 0x50 && at % 97 !== 0) continue;
    for (const bit of [0, 3, 7]) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
      try {
        await htabOf(flipped);
        await eventsOf(new BufferSource(flipped));
      } catch (error) {
        if (!(error instanceof SpaprHtabError)) throw error;
        expect(error.message.length).toBeGreaterThan(10);
      }
    }
  }
});

test.each([
  ['magic', Buffer.from('QEVN\0\0\0\x03'), 'E_MAGIC', 0],
  ['version 2', header(2), 'E_VERSION', 4],
  ['nothing behind the header', header(), 'E_TRUNCATED', 8],
  ['an element of no kind', Buffer.concat([header(), Buffer.of(0x2a)]), 'E_ELEMENT', 8],
  ['PART without START', Buffer.concat([header(), part(7, ram.empty, BARE)]), 'E_SECTION', 8],
  [
    'a footer of another section',
    Buffer.concat([
      header(),
      start(2, 'ram', 4, ram.setup('r', 4096), FOOTERS),
      part(2, ram.empty, BARE),
      Buffer.of(0x7e),
      u32(3),
    ]),
    'E_FOOTER',
    8 + 17 + 26 + 5 + 5 + 8,
  ],
  [
    'two sections with one id',
    Buffer.concat([
      header(),
      start(2, 'ram', 4, ram.setup('r', 4096), BARE),
      start(2, 'spapr/htab', 1, u32(18), BARE),
    ]),
    'E_SECTION',
    8 + 17 + 26,
  ],
  [
    'an unknown subsection of the configuration',
    Buffer.concat([
      header(),
      configuration('pseries-7.2'),
      Buffer.of(5),
      str8('configuration/other'),
      u32(1),
    ]),
    'E_CONFIGURATION',
    24,
  ],
])('%s', async (_name, bytes, code, offset) => {
  await expect(eventsOf(new BufferSource(bytes))).rejects.toMatchObject({ code, offset });
});

test('a device that is saved early stands before the first START', async () => {
  const bytes = Buffer.concat([
    header(),
    configuration('pseries-10.0'),
    full(7, 'virtio-mem-device-early', 1, Buffer.alloc(40, 4), FOOTERS),
    start(2, 'ram', 4, ram.setup('r', 4096), FOOTERS),
    start(5, 'spapr/htab', 1, u32(18), FOOTERS),
    end(2, ram.empty, FOOTERS),
    end(5, htabPart(chunk(1, [hpte(1)])), FOOTERS),
    tail([{ name: 'virtio-mem-device-early', size: 40 }]),
  ]);
  for (const { open } of SOURCE_KINDS.filter(({ name }) => name !== 'file')) {
    const info = await describeStream(await open(bytes));
    expect(info.sections.map((s) => s.length)).toEqual([
      40,
      expect.any(Number),
      24 + 4 + 4 + 8 + 4 - 4,
    ]);
    expect(info.hpt).toMatchObject({ order: 18, valid: 1 });
  }
});

test('the list inside a postcopy package is walked like the one around it', async () => {
  const device = full(6, 'timer', 2, Buffer.alloc(24), FOOTERS);
  const inside = Buffer.concat([Buffer.of(8, 0, 4, 0, 0), device, Buffer.of(8, 0, 5, 0, 0)]);
  const bytes = Buffer.concat([
    header(),
    start(2, 'ram', 4, ram.setup('r', 4096), FOOTERS),
    start(5, 'spapr/htab', 1, u32(18), FOOTERS),
    end(5, htabPart(chunk(1, [hpte(1)])), FOOTERS),
    Buffer.of(8, 0, 7, 0, 4),
    u32(inside.length),
    inside,
    end(2, ram.empty, FOOTERS),
    Buffer.of(0),
  ]);
  const info = await describeStream(new BufferSource(bytes));
  expect(info.sections.map((s) => [s.name, s.length])).toContainEqual(['timer', 24]);
  expect(info.commands.map((c) => c.name)).toEqual(['PACKAGED', 'POSTCOPY_LISTEN', 'POSTCOPY_RUN']);
  expect(info.warnings.map((w) => w.code)).toContain('W_POSTCOPY');
  expect(info.hpt).toMatchObject({ order: 18, valid: 1 });
});

describe('the ram section', () => {
  const setup = start(2, 'ram', 4, ram.setup('r', 8192), BARE);
  const at = 8 + setup.length + 5;
  const walk = (payload: Buffer, prefix = Buffer.alloc(0)) =>
    describeStream(
      new BufferSource(
        Buffer.concat([
          header(),
          prefix,
          setup,
          part(2, payload, BARE),
          end(2, ram.empty, BARE),
          tail([]),
        ]),
      ),
    );

  test('every kind of page entry is passed over', async () => {
    const info = await walk(
      Buffer.concat([
        u64(0x8),
        str8('r'),
        Buffer.alloc(4096),
        u64(0x200),
        u64(0x1000 | 0x20 | 0x40),
        Buffer.of(1),
        Buffer.from('0003', 'hex'),
        Buffer.alloc(3),
        u64(0x20 | 0x100),
        u32(11),
        Buffer.alloc(11),
        u64(0x20 | 0x2),
        Buffer.of(0),
        u64(0x10),
      ]),
    );
    expect(info.ram).toMatchObject([
      { pages: 1, zeroPages: 1, xbzrlePages: 1, compressedPages: 1 },
    ]);
  });

  test.each([
    ['no flag', u64(0), 'E_RAM', at],
    ['a page of no block', u64(0x28), 'E_RAM', at],
    ['a block that the list lacks', Buffer.concat([u64(8), str8('x')]), 'E_RAM', at + 8],
    ['a page beyond its block', Buffer.concat([u64(0x2008), str8('r')]), 'E_RAM', at],
    ['an RDMA hook', u64(0x80), 'E_UNSUPPORTED', at],
  ])('%s', async (_name, payload, code, offset) => {
    await expect(walk(payload)).rejects.toMatchObject({ code, offset });
  });

  test('of very many blocks, a message names the first', async () => {
    const names = Array.from({ length: 30_000 }, (_, i) => `block ${i}`);
    const list = Buffer.concat([
      u64((BigInt(names.length) << 12n) | 4n),
      ...names.flatMap((name) => [str8(name), u64(4096)]),
    ]);
    const page = Buffer.concat([u64(8), str8('x'), Buffer.alloc(4096)]);
    const payload = Buffer.concat([list, page]);
    const bytes = Buffer.concat([header(), start(2, 'ram', 4, payload, BARE), tail([])]);
    const error = await describeStream(new BufferSource(bytes)).catch((error: Error) => error);
    expect(error).toMatchObject({
      code: 'E_RAM',
      expected: expect.stringMatching(/^"block 0", .*"block 15" or one of 29984 more$/),
    });
  });

  test('the page size that the postcopy capability adds is found', async () => {
    const list = Buffer.concat([
      u64((3n << 20n) | 4n),
      ...[str8('a'), u64(2 << 20), u64(1 << 24), str8('b'), u64(1 << 20), u64(0x10)],
    ]);
    const advise = Buffer.concat([Buffer.of(8, 0, 3, 0, 0)]);
    const bytes = Buffer.concat([header(), advise, start(2, 'ram', 4, list, BARE), tail([])]);
    const info = await describeStream(new BufferSource(bytes));
    expect(info.ram).toMatchObject([
      { name: 'a', pageSize: 1 << 24 },
      { name: 'b', pageSize: undefined },
    ]);
  });
});

describe('lengths of devices', () => {
  const guest = (described: number, real: number, footers: boolean) =>
    Buffer.concat([
      header(),
      start(2, 'ram', 4, ram.setup('r', 4096), { footers }),
      start(5, 'spapr/htab', 1, u32(18), { footers }),
      end(2, ram.empty, { footers }),
      end(5, htabPart(), { footers }),
      full(6, 'cpu', 5, Buffer.alloc(real, 0xee), { footers }),
      full(7, 'timer', 2, Buffer.alloc(24), { footers }),
      tail([
        { name: 'cpu', size: described },
        { name: 'timer', size: 24 },
      ]),
    ]);

  test.each([-4, 4, 100])(
    'a description that is wrong by %i is reported and mended',
    async (by) => {
      const info = await describeStream(new BufferSource(guest(50 + by + 50, 100, true)));
      expect(info.sections.map((s) => s.length)).toEqual([expect.any(Number), 16, 100, 24]);
      expect(info.warnings.map((w) => w.code)).toEqual(['W_LENGTH_BY_FOOTER']);
    },
  );

  test('without footers, a wrong description is mended by a guess that is reported', async () => {
    const info = await describeStream(new BufferSource(guest(96, 100, false)));
    expect(info.warnings.map((w) => w.code)).toEqual(['W_LENGTH_GUESSED']);
    expect(info.sections.map((s) => s.length)).toEqual([expect.any(Number), 16, 100, 24]);
  });

  test.each([true, false])('an unknown iterable, footers %s', async (footers) => {
    const bytes = Buffer.concat([
      header(),
      start(2, 'ram', 4, ram.setup('r', 4096), { footers }),
      start(3, 'spapr/htab', 1, u32(18), { footers }),
      start(9, 'novelty', 1, Buffer.alloc(300, 0x7e), { footers }),
      end(2, ram.empty, { footers }),
      end(3, htabPart(), { footers }),
      tail([]),
    ]);
    const info = await describeStream(new BufferSource(bytes));
    if (footers) {
      expect(info.sections.find((s) => s.name === 'novelty')?.length).toBe(300);
      expect(info.warnings.map((w) => w.code)).toEqual(['W_LENGTH_BY_FOOTER']);
    } else {
      expect(info.warnings.map((w) => w.code)).toEqual(['W_OPAQUE_REST']);
      await expect(htabOf(bytes)).rejects.toMatchObject({ code: 'E_SECTION_LENGTH' });
    }
  });

  test('a stream of another machine has no HPT, and that is said', async () => {
    const bytes = Buffer.concat([
      header(),
      configuration('pc-i440fx-7.2'),
      start(2, 'ram', 4, ram.setup('pc.ram', 4096), FOOTERS),
      end(2, ram.empty, FOOTERS),
      tail([]),
    ]);
    await expect(htabOf(bytes)).rejects.toMatchObject({ code: 'E_NO_SECTION' });
  });
});

describe('other iterable sections', () => {
  const bits = (flags: number, ...rest: Buffer[]) => Buffer.concat([Buffer.of(flags), ...rest]);
  const DIRTY = Buffer.concat([
    bits(0x1c, str8('node0'), str8('map0'), u32(65536), Buffer.of(3)),
    bits(0x42, u64(0), u32(128)),
    bits(0x40, u64(128), u32(8), u64(3), Buffer.alloc(3)),
    bits(0x20),
    bits(0x01),
  ]);
  const BLOCK = Buffer.concat([
    u64(1),
    str8('disk0'),
    Buffer.alloc(1 << 20),
    u64((2048n << 9n) | 9n),
    str8('disk0'),
    u64((50n << 9n) | 4n),
    u64(2),
  ]);
  const tag = (n: number) => u64(0xffffffffef100000n + BigInt(n));
  const VFIO = Buffer.concat([tag(4), u64(5), Buffer.alloc(5), tag(4), u64(0), tag(1)]);

  test.each([
    ['dirty-bitmap', DIRTY],
    ['block', BLOCK],
    ['pci@800000020000000:00.0/vfio', VFIO],
    ['vfio', Buffer.concat([tag(3), tag(1)])],
    ['vfio', tag(5)],
  ])('%s is passed over, without footers too', async (name, payload) => {
    const bytes = Buffer.concat([
      header(),
      start(2, 'ram', 4, ram.setup('r', 4096), BARE),
      start(9, name, 1, payload, BARE),
      end(9, payload, BARE),
      end(2, ram.empty, BARE),
      tail([]),
    ]);
    const info = await describeStream(new BufferSource(bytes));
    expect(info.sections.find((s) => s.id === 9)?.length).toBe(2 * payload.length);
    expect(info.warnings).toEqual([]);
    const last = info.sections.find((s) => s.id === 9)?.parts.at(-1)?.payloadOffset ?? 0;
    for (let cut = 0; cut < payload.length; cut += Math.ceil(payload.length / 97)) {
      const walk = describeStream(new BufferSource(bytes.subarray(0, last + cut)));
      await expect(walk).rejects.toMatchObject({ name: 'FormatError' });
    }
  });

  test.each([
    ['dirty-bitmap', Buffer.of(0x80, 0x80, 0, 0)],
    ['block', u64(0)],
    ['vfio', tag(2)],
  ])('%s with something unknown in it', async (name, payload) => {
    const bytes = Buffer.concat([header(), start(9, name, 1, payload, BARE)]);
    const failure = { code: 'E_ELEMENT', offset: bytes.length - payload.length };
    await expect(eventsOf(new BufferSource(bytes))).rejects.toMatchObject(failure);
  });
});

describe('the event loop goes on', () => {
  /** How often a timer fires while a stream is described. */
  async function turnsFor(...elements: Buffer[]): Promise<number> {
    const source = new BufferSource(Buffer.concat([header(), ...elements, tail(undefined)]));
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await describeStream(source);
    clearInterval(timer);
    return turns;
  }

  test('during a million bytes of tiny parts', async () => {
    const parts = new Array<Buffer>(50_000).fill(part(5, htabPart(), FOOTERS));
    const begin = start(5, 'spapr/htab', 1, u32(22), FOOTERS);
    expect(await turnsFor(begin, ...parts)).toBeGreaterThan(5);
  });

  test('during blocks that empty many slots each', async () => {
    const place = (i: number) => Math.imul(i, 2654435761) >>> 0;
    const blocks = Array.from({ length: 40_000 }, (_, i) => chunk(place(i), [hpte(i)], 65535));
    const begin = start(5, 'spapr/htab', 1, u32(46), FOOTERS);
    expect(await turnsFor(begin, part(5, htabPart(...blocks), FOOTERS))).toBeGreaterThan(5);
  });
});
