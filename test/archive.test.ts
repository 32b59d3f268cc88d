import { createHash } from 'node:crypto';
import { Encoder } from '@msgpack/msgpack';
import {
  BufferSource,
  ByteReader,
  decodeSection,
  encodeArchive,
  encodeSection,
  readArchive,
  SpaprHtabError,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { collect, SOURCE_KINDS } from './helpers/sources.js';
import { chunk, hpte, htabPart, u32 } from './helpers/stream.js';

const ORIGIN = {
  source: { kind: 'section' },
  byteOrder: null,
  host: { pageSize: 65536, kernel: 'Linux 6.1' },
  time: '2026-01-02T03:04:05.678Z',
};
const SECTION = Buffer.concat([
  u32(18),
  htabPart(),
  htabPart(chunk(1, [hpte(1), hpte(2)], 3), chunk(16383, [], 1)),
  htabPart(chunk(2, [hpte(3)])),
]);

const archiveOf = (section: Buffer) =>
  collect(encodeArchive(decodeSection(new ByteReader(new BufferSource(section))), ORIGIN));

async function sectionOf(source: ByteReader): Promise<Buffer> {
  return collect(encodeSection((await readArchive(source)).items));
}
const read = (bytes: Uint8Array) => sectionOf(new ByteReader(new BufferSource(bytes)));

/** An archive of any records, with a checksum that is right. */
function archive(...records: unknown[]): Buffer {
  const encoder = new Encoder();
  const body = Buffer.concat(records.map((record) => encoder.encode(record)));
  const digest = createHash('sha256').update(body).digest();
  return Buffer.concat([body, Buffer.of(0xc4, 32), digest]);
}
const HEADER = { format: 'spapr-htab', version: 1, order: 18, ...ORIGIN };
const NO_BLOCKS = { trailer: { parts: 0, blocks: 0, valid: 0, invalid: 0 } };

test.each(SOURCE_KINDS)('what goes in comes out, from a $name', async ({ open }) => {
  const bytes = await archiveOf(SECTION);
  await using source = await open(bytes);
  expect((await sectionOf(new ByteReader(source))).equals(SECTION)).toBe(true);
});

test('the header says where the table comes from', async () => {
  const { header } = await readArchive(new ByteReader(new BufferSource(await archiveOf(SECTION))));
  expect(header).toEqual(HEADER);
  const radix = await archiveOf(u32(0xffffffff));
  const reading = await readArchive(new ByteReader(new BufferSource(radix)));
  expect(reading.header.order).toBeNull();
  expect((await collect(encodeSection(reading.items))).toString('hex')).toBe('ffffffff');
});

test('cut off at any byte, or with any bit flipped: a typed error', async () => {
  const bytes = await archiveOf(SECTION);
  const damaged: Buffer[] = [];
  for (let length = 0; length < bytes.length; length++) damaged.push(bytes.subarray(0, length));
  for (let at = 0; at < bytes.length * 8; at++) {
    const flipped = Buffer.from(bytes);
    flipped[at >> 3] = (flipped[at >> 3] ?? 0) ^ (1 << (at & 7));
    damaged.push(flipped);
  }
  for (const candidate of damaged) {
    const failure = await read(candidate).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SpaprHtabError);
    expect((failure as SpaprHtabError).offset ?? 0).toBeLessThanOrEqual(candidate.length);
  }
}, 300_000);

describe('with a checksum that is right', () => {
  const block = (...fields: unknown[]) =>
    archive(HEADER, { order: 18 }, 'part', fields, 'end', NO_BLOCKS);

  test.each([
    ['another format', archive({ ...HEADER, format: 'other' }, NO_BLOCKS), 'E_ARCHIVE'],
    ['another version', archive({ ...HEADER, version: 2 }, NO_BLOCKS), 'E_VERSION'],
    ['no header', archive(NO_BLOCKS), 'E_ARCHIVE'],
    ['an order that cannot be', archive({ ...HEADER, order: 99 }, NO_BLOCKS), 'E_ARCHIVE'],
    ['a time that is none', archive({ ...HEADER, time: 'soon' }, NO_BLOCKS), 'E_ARCHIVE'],
    ['no trailer', archive(HEADER), 'E_TRUNCATED'],
    ['records behind the trailer', archive(HEADER, NO_BLOCKS, 'part'), 'E_ARCHIVE'],
    ['a record of no kind', archive(HEADER, 7), 'E_ARCHIVE'],
    ['other counts', archive(HEADER, 'part', 'end', NO_BLOCKS), 'E_CHECKSUM'],
    ['half an entry', block(0, 0, Buffer.alloc(8)), 'E_ARCHIVE'],
    ['an index that is no u32', block(2 ** 33, 0, Buffer.alloc(16)), 'E_ARCHIVE'],
    ['a negative count', block(0, -1, Buffer.alloc(16)), 'E_ARCHIVE'],
    ['entries that are text', block(0, 0, 'x'.repeat(16)), 'E_ARCHIVE'],
    ['a slot beyond the table', block(16384, 1, Buffer.alloc(0)), 'E_BLOCK_RANGE'],
    [
      'a key that pollutes',
      archive(JSON.parse('{"__proto__": {"format": "spapr-htab"}}')),
      'E_ARCHIVE',
    ],
    ['deep nesting', archive(HEADER, [[[[[[1]]]]]], NO_BLOCKS), 'E_ARCHIVE'],
  ])('%s', async (_name, bytes, code) => {
    await expect(read(bytes)).rejects.toMatchObject({ code });
  });

  test('unknown keys of the header are passed over', async () => {
    const bytes = archive({ ...HEADER, later: true }, { order: 18 }, NO_BLOCKS);
    expect((await read(bytes)).equals(u32(18))).toBe(true);
  });
});
