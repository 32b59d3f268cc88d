import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip, gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import {
  BufferSource,
  extractRam,
  inspect,
  type MappedRegion,
  MemoryFile,
  type RewriteOptions,
  readRam,
  rewrite,
} from 'spapr-htab';
import { beforeAll, describe, expect, test } from 'vitest';
import { fixture, fixtureUrl, load } from '../helpers/fixtures.js';
import { scratchFile } from '../helpers/sources.js';
import { mappedGuest, memory, pageOf } from '../memory/guests.js';
import { dissect, refusal, rewritten } from './support.js';

const XML = '<domain type="kvm"><name>guest</name></domain>';
const MIB = 1024 * 1024;

async function ramOf(bytes: Buffer, offset = 0): Promise<Buffer> {
  const { start, inner } = await dissect(bytes, { offset });
  const file = new MemoryFile();
  await readRam(new BufferSource(inner), { start }, file);
  const ram = Buffer.alloc(file.size);
  await file.read(ram, 0);
  return ram;
}

async function region(bytes: Buffer, offset = 0): Promise<MappedRegion> {
  const { info } = await dissect(bytes, { offset });
  const mapped = info.ram[0]?.mapped;
  if (mapped === undefined) throw new Error('no mapped RAM');
  return mapped;
}

const CONTENT = { 0: pageOf(3), 5: pageOf(7), 15: pageOf(9) };
const EXPECTED = memory(16, CONTENT);

describe('a small guest', () => {
  const guest = mappedGuest(16, CONTENT);

  test('is copied as it is', async () => {
    const { bytes, result } = await rewritten(guest.bytes);
    expect(bytes.equals(guest.bytes)).toBe(true);
    expect(result).toMatchObject({ identical: true, hpt: undefined });
  });

  test.each(['pseries-9', 'pseries-99.9', 'pseries-10.0-with-a-tail'])(
    '%s: header and bitmap follow the name, the pages stay',
    async (machine) => {
      const { bytes } = await rewritten(guest.bytes, { machine });
      const moved = machine.length - 'pseries-10.0'.length;
      const { bitmapOffset, headerOffset, pagesOffset } = await region(bytes);
      expect(bitmapOffset).toBe(guest.bitmapAt + moved);
      expect(headerOffset).toBe(bitmapOffset - 28);
      expect(pagesOffset).toBe(guest.pagesAt);
      expect(bytes.length).toBe(guest.bytes.length);
      expect((await ramOf(bytes)).equals(EXPECTED)).toBe(true);
      const back = await rewritten(bytes, { machine: 'pseries-10.0' });
      expect(back.bytes.equals(guest.bytes)).toBe(true);
    },
  );

  test('into a libvirt image and back', async () => {
    const { bytes, result } = await rewritten(guest.bytes, { container: 'libvirt', xml: XML });
    expect(result.wrapping.after).toEqual({ container: 'libvirt', format: 'sparse' });
    expect(bytes.readUInt32LE(28)).toBe(6);
    expect((await ramOf(bytes)).equals(EXPECTED)).toBe(true);
    // A header of 64 KiB of padding: there is room for it before the pages.
    expect((await region(bytes)).pagesOffset).toBe(guest.pagesAt);
    const back = await rewritten(bytes, { container: 'raw' });
    expect(back.bytes.equals(guest.bytes)).toBe(true);
  });

  test('behind a header that takes all the room, the pages move to the next MiB', async () => {
    const xml = `<domain>${' '.repeat(MIB)}</domain>`;
    const { bytes } = await rewritten(guest.bytes, { container: 'libvirt', xml });
    expect((await region(bytes)).pagesOffset).toBe(2 * MIB);
    expect((await ramOf(bytes)).equals(EXPECTED)).toBe(true);
    const shrunk = await rewritten(bytes, { container: 'raw' });
    expect((await ramOf(shrunk.bytes)).equals(EXPECTED)).toBe(true);
    expect(shrunk.bytes.equals(guest.bytes)).toBe(true);
  });

  test('another XML that does not fit moves the header, and the offsets in it', async () => {
    const image = await rewritten(guest.bytes, { container: 'libvirt', xml: XML });
    const xml = `<domain>${'x'.repeat(70_000)}</domain>`;
    const { bytes } = await rewritten(image.bytes, { xml });
    const [old, made] = [await region(image.bytes), await region(bytes)];
    expect(made.headerOffset).toBeGreaterThan(old.headerOffset);
    expect(made.bitmapOffset).toBe(made.headerOffset + 28);
    expect(made.pagesOffset).toBe(old.pagesOffset);
    expect((await ramOf(bytes)).equals(EXPECTED)).toBe(true);
  });

  test('compressed as a whole, and back', async () => {
    const packed = await rewritten(guest.bytes, { compress: 'gzip' });
    expect(gunzipSync(packed.bytes).equals(guest.bytes)).toBe(true);
    const back = await rewritten(packed.bytes, { compress: 'none' });
    expect(back.bytes.equals(guest.bytes)).toBe(true);
    const edited = await rewritten(gzipSync(guest.bytes), { machine: 'pseries-10.0-longer' });
    expect((await ramOf(edited.bytes)).equals(EXPECTED)).toBe(true);
  });

  test.each(['none', 'gzip', 'xz'] as const)('libvirt cannot read it as %s', async (compress) => {
    const edits = { container: 'libvirt', xml: XML, compress } as const;
    const error = await refusal(rewritten(guest.bytes, edits));
    expect(error).toMatchObject({ code: 'E_UNSUPPORTED' });
    expect(error.message).toContain('sparse');
  });

  test('behind other bytes: they stay, and so does everything', async () => {
    const shifted = mappedGuest(16, CONTENT, { prefix: 5000 });
    const offset = 5000;
    const same = await rewritten(shifted.bytes, { offset });
    expect(same.bytes.equals(shifted.bytes)).toBe(true);
    const longer = await rewritten(shifted.bytes, { offset, machine: 'pseries-10.0-longer' });
    expect(longer.bytes.subarray(0, offset)).toEqual(Buffer.alloc(offset, 0x99));
    expect((await region(longer.bytes, offset)).pagesOffset).toBe(shifted.pagesAt);
    expect((await ramOf(longer.bytes, offset)).equals(EXPECTED)).toBe(true);
    const { bytes } = await rewritten(shifted.bytes, { offset, container: 'raw' });
    expect(bytes.equals(guest.bytes)).toBe(true);
  });
});

test('wherever it stands and whatever it is called, the memory is the same', async () => {
  const arbitrary = fc.record({
    pages: fc.integer({ min: 1, max: 130 }),
    marks: fc.uniqueArray(fc.nat(129), { maxLength: 6 }),
    order: fc.constantFrom('little' as const, 'big' as const),
    prefix: fc.constantFrom(0, 1, 4097, 70_001),
    machine: fc.integer({ min: 1, max: 200 }).map((length) => 'm'.repeat(length)),
    xml: fc
      .constantFrom(0, 5, 66_000, MIB, 3 * MIB - 66_000)
      .map((n) => `<domain>${'x'.repeat(n)}</domain>`),
    container: fc.constantFrom('raw' as const, 'libvirt' as const, undefined),
  });
  await fc.assert(
    fc.asyncProperty(
      arbitrary,
      async ({ pages, marks, order, prefix, machine, xml, container }) => {
        const inside = marks.filter((page) => page < pages);
        const content = Object.fromEntries(inside.map((page) => [page, pageOf(page + 1)]));
        const guest = mappedGuest(pages, content, { order, prefix });
        const wrapped: RewriteOptions =
          container === 'libvirt' ? { container, xml } : { container };
        const { bytes } = await rewritten(guest.bytes, { offset: prefix, machine, ...wrapped });
        const offset = container === undefined ? prefix : 0;
        expect((await ramOf(bytes, offset)).equals(memory(pages, content))).toBe(true);
        const { pagesOffset, bitmapOffset } = await region(bytes, offset);
        expect(pagesOffset % MIB).toBe(0);
        const expected = Math.ceil((bitmapOffset + Math.ceil(pages / 64) * 8) / MIB) * MIB;
        expect(pagesOffset).toBe(expected);
      },
    ),
    { numRuns: 25 },
  );
});

test('mapped-ram without a block in it is mapped-ram all the same', async () => {
  // x-ignore-shared: the capability is in the configuration, and QEMU wants it set to load this.
  const guest = load(fixture('containers/mapped-ram-shared-11.1.mig.gz'));
  const { bytes, result } = await rewritten(guest, { container: 'libvirt', xml: XML });
  expect(result.wrapping.after.format).toBe('sparse');
  expect((await rewritten(bytes, { container: 'raw' })).bytes.equals(guest)).toBe(true);
  const edits = { container: 'libvirt', xml: XML, compress: 'zstd' } as const;
  expect(await refusal(rewritten(guest, edits))).toMatchObject({ code: 'E_UNSUPPORTED' });
});

describe('a whole guest', () => {
  const path = scratchFile('mapped-ram-multifd-live.mig');
  const out = scratchFile('out');
  let before = '';

  const edited = async (input: string, options: RewriteOptions) => {
    const result = await rewrite(input, out, { ...options, force: true });
    const info = await inspect(out);
    return { result, mapped: info.stream?.ram[0]?.mapped, ram: await ramHash(out) };
  };

  beforeAll(async () => {
    const packed = createReadStream(fixtureUrl('containers/mapped-ram-multifd-live.mig.gz'));
    await pipeline(packed, createGunzip(), createWriteStream(path));
    before = await ramHash(path);
  });

  test('edits of the HPT and of the name move no page', async () => {
    const pagesOffset = MIB;
    const bolted = await edited(path, { boltedOnly: true });
    expect(bolted).toMatchObject({ mapped: { pagesOffset }, ram: before });
    expect(bolted.result.hpt?.after).not.toEqual(bolted.result.hpt?.before);
    const name = await edited(out, {
      machine: 'pseries-10.0-longer',
      container: 'libvirt',
      xml: XML,
    });
    expect(name).toMatchObject({ mapped: { pagesOffset }, ram: before });
    expect(name.result.warnings).toEqual([]);
    const image = scratchFile('image');
    await rewrite(out, image, {});
    const small = await edited(image, { compact: true, machine: 'pseries-9.0', container: 'raw' });
    expect(small).toMatchObject({ mapped: { pagesOffset }, ram: before });
  });

  test('out of a qcow2 image into a libvirt image, with another HPT and name', async () => {
    const item = fixture('containers/qcow2-mapped-ram-11.1.qcow2.gz');
    const image = scratchFile('image.qcow2', load(item));
    const edits = { compact: true, machine: 'pseries-11.1-longer' };
    const wrapped = await edited(image, { ...edits, container: 'libvirt', xml: XML });
    expect(wrapped.ram).toBe(await ramHash(image));
    expect(wrapped.mapped).toMatchObject({ pagesOffset: MIB });
    expect(wrapped.result.wrapping).toEqual({
      before: undefined,
      after: { container: 'libvirt', format: 'sparse' },
    });
  });
});

async function ramHash(path: string): Promise<string> {
  const file = scratchFile('ram');
  await extractRam(path, file);
  const { size } = await stat(file);
  await using handle = await open(file);
  const hash = createHash('sha1');
  const piece = Buffer.alloc(4 * MIB);
  const zeros = Buffer.alloc(4 * MIB);
  // Zeros are told by their number: hashing them all would take longer than the rest.
  for (let at = 0; at < size; at += piece.length) {
    const { bytesRead } = await handle.read(piece, 0, piece.length, at);
    const bytes = piece.subarray(0, bytesRead);
    hash.update(bytes.equals(zeros.subarray(0, bytesRead)) ? `${at}` : bytes);
  }
  return hash.digest('hex');
}
