import { describe, expect, test } from 'vitest';
import { editLibvirtHeader, newLibvirtHeader } from '../../src/container/libvirt-encode.js';
import { DEFAULT_LIMITS } from '../../src/limits.js';
import { makeLibvirt } from '../container/make-libvirt.js';

const fields = (header: Buffer, big = false) => {
  const at = (offset: number) => (big ? header.readUInt32BE(offset) : header.readUInt32LE(offset));
  return {
    magic: header.toString('latin1', 0, 16),
    version: at(16),
    dataLength: at(20),
    wasRunning: at(24),
    format: at(28),
    cookieOffset: at(32),
  };
};
const MOST = DEFAULT_LIMITS.libvirtBytes;
const DATA = 92;
const PADDING = 64 * 1024;

describe('a new header', () => {
  test('has these bytes', () => {
    const xml = '<domain>é</domain>';
    const header = newLibvirtHeader({ format: 'zstd', xml });
    const text = Buffer.from(`${xml}\0`);
    expect(fields(header)).toEqual({
      magic: 'LibvirtQemudSave',
      version: 2,
      dataLength: text.length + PADDING,
      wasRunning: 1,
      format: 5,
      cookieOffset: 0,
    });
    expect(header.subarray(36, DATA)).toEqual(Buffer.alloc(56));
    expect(header.subarray(DATA)).toEqual(Buffer.concat([text, Buffer.alloc(PADDING)]));
  });

  test.each([
    ['raw', 0],
    ['gzip', 1],
    ['bzip2', 2],
    ['xz', 3],
    ['lzop', 4],
    ['zstd', 5],
    ['sparse', 6],
  ] as const)('%s is number %i, paused is 0', (format, number) => {
    const header = newLibvirtHeader({ format, xml: '<domain/>', running: false });
    expect(fields(header)).toMatchObject({ format: number, wasRunning: 0 });
  });
});

describe.each(['little', 'big'] as const)('%s-endian', (byteOrder) => {
  const big = byteOrder === 'big';
  const cookie = '<qemu/>';
  const xml = '<domain type="kvm"><name>a</name></domain>';

  test('no edit gives the same bytes, whatever stands in unused places', () => {
    const header = makeLibvirt({ byteOrder, xml, cookie, format: 1, wasRunning: 7 });
    header.fill(0xee, 36, DATA);
    header.fill(0xdd, header.length - 5);
    expect(editLibvirtHeader(header, { format: 'gzip' })).toEqual(header);
  });

  test('the given header is not written to', () => {
    const header = makeLibvirt({ byteOrder, xml, cookie });
    const copy = Buffer.from(header);
    editLibvirtHeader(header, { format: 'xz', running: false, xml: '<domain></domain>' });
    expect(header).toEqual(copy);
  });

  test('format and state are one field each', () => {
    const header = makeLibvirt({ byteOrder, xml, cookie, wasRunning: 1 });
    const made = editLibvirtHeader(header, { format: 'sparse', running: false });
    expect(fields(made, big)).toEqual({ ...fields(header, big), format: 6, wasRunning: 0 });
    expect(made.subarray(DATA)).toEqual(header.subarray(DATA));
    const back = editLibvirtHeader(made, { format: 'raw', running: true });
    expect(back).toEqual(header);
  });

  test('another XML that fits: the cookie moves up, the length stays', () => {
    const header = makeLibvirt({ byteOrder, xml, cookie, padding: 40 });
    for (const text of ['<domain/>', xml, `${xml}${' '.repeat(40)}`]) {
      const made = editLibvirtHeader(header, { format: 'raw', xml: text });
      expect(made.length).toBe(header.length);
      const { cookieOffset, dataLength } = fields(made, big);
      expect(dataLength).toBe(header.length - DATA);
      expect(cookieOffset).toBe(text.length + 1);
      const expected = Buffer.alloc(dataLength);
      expected.write(`${text}\0${cookie}\0`);
      expect(made.subarray(DATA)).toEqual(expected);
    }
  });

  test('one byte more does not fit: there is new room', () => {
    const header = makeLibvirt({ byteOrder, xml, cookie, padding: 40 });
    const text = `${xml}${' '.repeat(41)}`;
    const made = editLibvirtHeader(header, { format: 'raw', xml: text });
    const { cookieOffset, dataLength } = fields(made, big);
    expect(dataLength).toBe(header.length - DATA + 1 + PADDING);
    expect(made.length).toBe(DATA + dataLength);
    expect(cookieOffset).toBe(text.length + 1);
    const expected = Buffer.alloc(dataLength);
    expected.write(`${text}\0${cookie}\0`);
    expect(made.subarray(DATA)).toEqual(expected);
  });

  test('more than is read back is refused', () => {
    const header = makeLibvirt({ byteOrder, xml, cookie, padding: MOST - 100 });
    const room = fields(header, big).dataLength - `${cookie}\0`.length - 1;
    const spaces = (length: number) => xml.padEnd(length);
    const fits = editLibvirtHeader(header, { format: 'raw', xml: spaces(room) });
    expect(fits.length).toBe(header.length);
    for (const more of [1, 200, MOST]) {
      const edit = () => editLibvirtHeader(header, { format: 'raw', xml: spaces(room + more) });
      expect(edit).toThrow(
        expect.objectContaining({
          code: 'E_LIMIT',
          expected: `at most ${MOST} bytes`,
        }),
      );
    }
  });

  test('without cookie there is none afterwards', () => {
    const header = makeLibvirt({ byteOrder, xml, padding: 100 });
    const made = editLibvirtHeader(header, { format: 'raw', xml: '<domain>new</domain>' });
    expect(fields(made, big)).toEqual(fields(header, big));
    const expected = Buffer.alloc(header.length - DATA);
    expected.write('<domain>new</domain>');
    expect(made.subarray(DATA)).toEqual(expected);
  });

  test('version 1 stays one as long as the stream is stored as it is', () => {
    const header = makeLibvirt({ byteOrder, xml, version: 1, format: 3 });
    const paused = editLibvirtHeader(header, { format: 'raw', running: false });
    expect(fields(paused, big)).toEqual({ ...fields(header, big), wasRunning: 0 });
    const packed = editLibvirtHeader(header, { format: 'gzip' });
    expect(fields(packed, big)).toEqual({ ...fields(header, big), version: 2, format: 1 });
  });

  test('an image that is not complete stays so', () => {
    const header = makeLibvirt({ byteOrder, xml, magic: 'LibvirtQemudPart' });
    const made = editLibvirtHeader(header, { format: 'xz' });
    expect(fields(made, big).magic).toBe('LibvirtQemudPart');
  });
});
