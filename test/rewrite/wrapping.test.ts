import { execFileSync } from 'node:child_process';
import { gunzipSync, gzipSync } from 'node:zlib';
import { BufferSource, type OutputFormat, openContainer } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { makeLibvirt } from '../container/make-libvirt.js';
import { fixture, load } from '../helpers/fixtures.js';
import { smallGuest } from '../helpers/stream.js';
import { dissect, refusal, rewritten } from './support.js';

const XML =
  '<domain type="kvm"><os><type arch="ppc64" machine="pseries-7.2">hvm</type></os></domain>';
const GUEST = smallGuest();
const PACKED: readonly OutputFormat[] = ['gzip', 'bzip2', 'xz', 'lzop', 'zstd'];
const image = (bytes: Buffer, edits = {}) =>
  rewritten(bytes, { container: 'libvirt', xml: XML, ...edits });

/** What the program itself makes of the bytes. */
function unpacked(format: OutputFormat, bytes: Buffer): Buffer {
  if (format === 'none') return bytes;
  return execFileSync(format, ['-dc'], { input: bytes, maxBuffer: 2 ** 28 });
}

describe('libvirt images', () => {
  test.each(['none', ...PACKED] as const)(
    '%s: around a raw stream, and off again',
    async (compress) => {
      const made = await image(GUEST, { compress });
      const { start } = { start: 92 + made.bytes.readUInt32LE(20) };
      expect(unpacked(compress, made.bytes.subarray(start)).equals(GUEST)).toBe(true);
      expect(made.result).toMatchObject({
        identical: false,
        wrapping: {
          before: { container: 'raw', format: 'none' },
          after: { container: 'libvirt', format: compress },
        },
        warnings: [],
      });
      await using opened = await openContainer(new BufferSource(made.bytes), { xml: true });
      expect(opened.layers).toMatchObject([
        {
          kind: 'libvirt',
          byteOrder: 'little',
          version: 2,
          wasRunning: true,
          complete: true,
          xml: XML,
        },
      ]);
      const back = await rewritten(made.bytes, { container: 'raw' });
      expect(back.bytes.equals(GUEST)).toBe(true);
      expect(back.result.wrapping.after).toEqual({ container: 'raw', format: 'none' });
    },
  );

  test.each(PACKED)('%s into every other', async (compress) => {
    const made = await image(GUEST, { compress });
    for (const other of PACKED) {
      const { bytes, result } = await rewritten(made.bytes, { compress: other });
      expect(result.identical).toBe(other === compress);
      const start = 92 + bytes.readUInt32LE(20);
      expect(bytes.subarray(92, start)).toEqual(made.bytes.subarray(92, start));
      expect(unpacked(other, bytes.subarray(start)).equals(GUEST)).toBe(true);
    }
  });

  test('to say what it is already changes nothing', async () => {
    for (const compress of ['none', 'gzip'] as const) {
      const made = await image(GUEST, { compress });
      const { bytes, result } = await rewritten(made.bytes, { container: 'libvirt' });
      expect(bytes.equals(made.bytes)).toBe(true);
      expect(result.identical).toBe(true);
    }
    const packed = gzipSync(GUEST);
    const same = await rewritten(packed, { container: 'raw', compress: 'gzip' });
    expect(same.bytes.equals(packed)).toBe(true);
    expect((await rewritten(packed, { container: 'raw' })).bytes.equals(packed)).toBe(true);
  });

  test('the fixture of libvirt keeps XML, cookie and padding', async () => {
    const before = load(fixture('containers/libvirt-zstd.save.gz'));
    const start = 92 + before.readUInt32LE(20);
    const { bytes } = await rewritten(before, { compact: true, compress: 'none', running: false });
    expect(bytes.subarray(92, start)).toEqual(before.subarray(92, start));
    expect(bytes.readUInt32LE(24)).toBe(0);
    expect(bytes.readUInt32LE(28)).toBe(0);
    expect(bytes.readUInt32LE(32)).toBe(before.readUInt32LE(32));
    expect(bytes.subarray(start, start + 4).toString()).toBe('QEVM');
  });

  test('of a big-endian host stay big-endian', async () => {
    const before = makeLibvirt({
      byteOrder: 'big',
      xml: XML,
      cookie: '<q/>',
      stream: GUEST,
      padding: 9,
    });
    const { bytes } = await rewritten(before, { compress: 'gzip', running: false });
    expect([16, 20, 24, 28, 32].map((at) => bytes.readUInt32BE(at))).toEqual([
      2,
      before.readUInt32BE(20),
      0,
      1,
      XML.length + 1,
    ]);
    expect(gunzipSync(bytes.subarray(92 + bytes.readUInt32BE(20))).equals(GUEST)).toBe(true);
    const back = await rewritten(bytes, { compress: 'none', running: true });
    expect(back.bytes.equals(before)).toBe(true);
  });

  test('an XML that fits moves nothing, one that does not makes room', async () => {
    const before = makeLibvirt({ xml: XML, cookie: '<q/>', stream: GUEST, padding: 100 });
    const fits = await rewritten(before, { xml: XML.replace('kvm', 'qemu'), compact: true });
    expect(fits.bytes.readUInt32LE(20)).toBe(before.readUInt32LE(20));
    const xml = XML.replace('</domain>', `<!--${'x'.repeat(200)}--></domain>`);
    const grown = await rewritten(before, { xml });
    const start = 92 + grown.bytes.readUInt32LE(20);
    expect(start).toBeGreaterThan(before.length - GUEST.length);
    expect(grown.bytes.subarray(start).equals(GUEST)).toBe(true);
    await using opened = await openContainer(new BufferSource(grown.bytes), { xml: true });
    expect(opened.layers[0]).toMatchObject({ xml, cookie: '<q/>' });
  });

  test('of version 1 are taken as they are', async () => {
    const before = makeLibvirt({ version: 1, format: 3, xml: XML, stream: GUEST });
    const { bytes, result } = await rewritten(before, { compact: true });
    expect(result.wrapping.after).toEqual({ container: 'libvirt', format: 'none' });
    const start = before.length - GUEST.length;
    expect(bytes.subarray(0, start)).toEqual(before.subarray(0, start));
    const { bytes: moved } = await rewritten(before, { compress: 'xz' });
    expect([moved.readUInt32LE(16), moved.readUInt32LE(28)]).toEqual([2, 3]);
  });

  test('that are not complete are told of', async () => {
    const before = makeLibvirt({ magic: 'LibvirtQemudPart', stream: GUEST });
    const { result } = await rewritten(before, { compact: true });
    expect(result.warnings.map(({ code }) => code)).toEqual(['W_INCOMPLETE']);
  });

  test('of another machine type than their XML asks for are told of', async () => {
    const { result } = await image(GUEST, { machine: 'pseries-8.0' });
    expect(result.warnings).toMatchObject([{ code: 'W_XML_MACHINE' }]);
    expect(result.warnings[0]?.message).toContain('pseries-8.0');
  });
});

describe('compressed streams', () => {
  test.each([...PACKED, 'lz4'] as const)('%s, and none', async (compress) => {
    const made = await rewritten(GUEST, { compress });
    expect(unpacked(compress, made.bytes).equals(GUEST)).toBe(true);
    expect(made.result.wrapping.after).toEqual({ container: 'raw', format: compress });
    const edited = await rewritten(made.bytes, { compact: true });
    expect(edited.result.wrapping.after.format).toBe(compress);
    const direct = await rewritten(GUEST, { compact: true });
    expect(unpacked(compress, edited.bytes).equals(direct.bytes)).toBe(true);
    expect((await rewritten(made.bytes, { compress: 'none' })).bytes.equals(GUEST)).toBe(true);
  });

  test('in one another: what is inside counts', async () => {
    const inner = await image(GUEST, { compress: 'xz' });
    const nested = gzipSync(gzipSync(inner.bytes));
    expect((await rewritten(nested)).bytes.equals(nested)).toBe(true);
    const { bytes, result } = await rewritten(nested, { running: false });
    expect(result.wrapping).toEqual({
      before: { container: 'libvirt', format: 'xz' },
      after: { container: 'libvirt', format: 'xz' },
    });
    expect((await dissect(bytes)).inner.equals(GUEST)).toBe(true);
  });
});

describe('of containers in one another, what was asked for stands alone', () => {
  const twice = gzipSync(gzipSync(GUEST));

  test.each([
    { compress: 'gzip' },
    { container: 'raw' },
    { container: 'raw', compress: 'gzip' },
  ] as const)('compression, by %j', async (edits) => {
    const { bytes, result } = await rewritten(twice, edits);
    expect(gunzipSync(bytes).equals(GUEST)).toBe(true);
    expect(result.identical).toBe(false);
    expect(result.wrapping.after).toEqual({ container: 'raw', format: 'gzip' });
    expect(result.warnings.map(({ code }) => code)).toEqual(['W_CONTAINER']);
    // Once it does, there is nothing to do.
    const again = await rewritten(bytes, edits);
    expect(again.bytes.equals(bytes)).toBe(true);
    expect(again.result).toMatchObject({ identical: true, warnings: [] });
  });

  test.each([
    ['none', { container: 'libvirt' }],
    ['none', { compress: 'none' }],
    ['xz', { container: 'libvirt', compress: 'xz' }],
    ['xz', { compress: 'xz' }],
  ] as const)('an image of format %s, by %j', async (format, edits) => {
    const inner = await image(GUEST, { compress: format });
    const { bytes, result } = await rewritten(gzipSync(inner.bytes), edits);
    expect(result.identical).toBe(false);
    const start = 92 + inner.bytes.readUInt32LE(20);
    expect(bytes.subarray(0, start).equals(inner.bytes.subarray(0, start))).toBe(true);
    expect(unpacked(format, bytes.subarray(start)).equals(GUEST)).toBe(true);
    expect((await rewritten(inner.bytes, edits)).result.identical).toBe(true);
  });

  test('without being asked they stay as they are', async () => {
    const { bytes, result } = await rewritten(twice);
    expect(bytes.equals(twice)).toBe(true);
    expect(result).toMatchObject({ identical: true, warnings: [] });
  });
});

describe('what stands in front', () => {
  const front = Buffer.alloc(1000, 0x77);
  const file = Buffer.concat([front, GUEST]);
  const offset = front.length;

  test('stays with the container, and goes with it', async () => {
    const edited = await rewritten(file, { offset, compact: true });
    const direct = await rewritten(GUEST, { compact: true });
    expect(edited.bytes.equals(Buffer.concat([front, direct.bytes]))).toBe(true);
    const bare = await rewritten(file, { offset, container: 'raw' });
    expect(bare.bytes.equals(GUEST)).toBe(true);
    expect(bare.result.identical).toBe(false);
    const made = await image(file, { offset });
    expect((await dissect(made.bytes)).inner.subarray(-GUEST.length).equals(GUEST)).toBe(true);
    expect(made.bytes.toString('latin1', 0, 16)).toBe('LibvirtQemudSave');
  });

  test('of something compressed', async () => {
    const packed = Buffer.concat([front, gzipSync(GUEST)]);
    expect((await rewritten(packed, { offset })).bytes.equals(packed)).toBe(true);
    const edited = await rewritten(packed, { offset, machine: 'pseries-7.9' });
    expect(edited.bytes.subarray(0, offset)).toEqual(front);
    expect(gunzipSync(edited.bytes.subarray(offset)).includes('pseries-7.9')).toBe(true);
  });
});

describe('refused', () => {
  const raw = 'a raw stream';
  test.each([
    ['no XML for a new image', { container: 'libvirt' }, 'E_USAGE', '--xml'],
    ['XML for a raw stream', { xml: XML }, 'E_USAGE', raw],
    ['running for a raw stream', { running: true }, 'E_USAGE', raw],
    ['sparse for a raw stream', { compress: 'sparse' }, 'E_USAGE', 'sparse'],
    [
      'lz4 for an image',
      { container: 'libvirt', xml: XML, compress: 'lz4' },
      'E_UNSUPPORTED',
      'lz4',
    ],
    [
      'sparse for pages in the stream',
      { container: 'libvirt', xml: XML, compress: 'sparse' },
      'E_UNSUPPORTED',
      'sparse',
    ],
    ['no XML', { container: 'libvirt', xml: '' }, 'E_USAGE', '<domain'],
    ['another XML', { container: 'libvirt', xml: '<network></network>' }, 'E_USAGE', '<domain'],
    [
      'a longer name',
      { container: 'libvirt', xml: '<domainsnapshot></domainsnapshot>' },
      'E_USAGE',
      '<domain',
    ],
    ['NUL in the XML', { container: 'libvirt', xml: '<domain>\0</domain>' }, 'E_USAGE', '<domain'],
    [
      'too much XML',
      { container: 'libvirt', xml: `<domain>${' '.repeat(2 ** 26)}</domain>` },
      'E_LIMIT',
      'libvirtBytes',
    ],
  ] as const)('%s', async (_, edits, code, word) => {
    const error = await refusal(rewritten(GUEST, edits));
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(word);
  });

  test.each([XML, `<?xml version="1.0"?>\n<!-- a\nb -->\n${XML}`, `\n ${XML}\n`])(
    'not: %j',
    async (xml) => {
      const made = await image(GUEST, { xml });
      expect(made.bytes.subarray(92, 92 + xml.length).toString()).toBe(xml);
    },
  );
});
