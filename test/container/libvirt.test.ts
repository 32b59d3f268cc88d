import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BufferSource } from '../../src/bytes/source.js';
import { readLibvirtHeader } from '../../src/container/libvirt.js';
import { DEFAULT_LIMITS } from '../../src/limits.js';
import { makeLibvirt } from './make-libvirt.js';
import { pipe, refusal } from './support.js';

const read = (bytes: Uint8Array, start = 0) => readLibvirtHeader(new BufferSource(bytes), start);

describe('readLibvirtHeader', () => {
  test.each(['little', 'big'] as const)('%s-endian', async (byteOrder) => {
    const image = makeLibvirt({ byteOrder, cookie: '<c/>', format: 5, padding: 100 });
    const { bytes, ...header } = await read(image);
    expect(bytes.equals(image)).toBe(true);
    expect(header).toEqual({
      byteOrder,
      version: 2,
      complete: true,
      wasRunning: true,
      format: 'zstd',
      dataLength: image.length - 92,
      cookieOffset: 21,
      streamOffset: image.length,
      xml: '<domain type="kvm"/>',
      cookie: '<c/>',
    });
    expect(JSON.parse(JSON.stringify(header))).toEqual(header);
  });

  test.each([
    [0, 'raw'],
    [1, 'gzip'],
    [2, 'bzip2'],
    [3, 'xz'],
    [4, 'lzop'],
    [5, 'zstd'],
    [6, 'sparse'],
  ])('format %i is %s', async (format, name) => {
    expect((await read(makeLibvirt({ format }))).format).toBe(name);
  });

  test('version 1 is raw whatever the format says', async () => {
    expect(await read(makeLibvirt({ version: 1, format: 77 }))).toMatchObject({
      version: 1,
      format: 'raw',
    });
  });

  test('the partial magic', async () => {
    expect((await read(makeLibvirt({ magic: 'LibvirtQemudPart' }))).complete).toBe(false);
  });

  test('inside a larger file, and from a pipe', async () => {
    const image = makeLibvirt({ wasRunning: 0 });
    const shifted = Buffer.concat([Buffer.alloc(1000), image]);
    expect(await read(shifted, 1000)).toMatchObject({
      wasRunning: false,
      streamOffset: 1000 + image.length,
    });
    expect((await readLibvirtHeader(pipe(image, 7))).xml).toBe('<domain type="kvm"/>');
  });

  test.each([
    ['magic', makeLibvirt({ magic: 'LibvirtQemudXxxx' }), 'E_MAGIC', 0],
    ['version 3', makeLibvirt({ version: 3 }), 'E_VERSION', 16],
    ['version 0', makeLibvirt({ version: 0 }), 'E_VERSION', 16],
    ['format', makeLibvirt({ format: 7 }), 'E_UNSUPPORTED', 28],
    ['no data', makeLibvirt({ dataLength: 0 }), 'E_CONTAINER', 20],
    ['too much data', makeLibvirt({ dataLength: DEFAULT_LIMITS.libvirtBytes + 1 }), 'E_LIMIT', 20],
    ['data beyond the end', makeLibvirt({ dataLength: 5000 }), 'E_TRUNCATED', 92],
    ['cookie outside', makeLibvirt({ cookieOffset: 5000 }), 'E_CONTAINER', 32],
    ['cookie outside', makeLibvirt({ cookieOffset: 0xffffffff }), 'E_CONTAINER', 32],
  ])('refuses: %s', async (_name, image, code, offset) => {
    expect(await refusal(read(image))).toMatchObject({ code, offset });
  });

  test('every truncation is a typed error', async () => {
    const image = makeLibvirt({ cookie: '<c/>' });
    for (let length = 0; length < image.length; length++) {
      expect((await refusal(read(image.subarray(0, length)))).code).toBe('E_TRUNCATED');
      const piped = readLibvirtHeader(pipe(image.subarray(0, length), 50));
      expect((await refusal(piped)).code).toBe('E_TRUNCATED');
    }
  });

  test('no length makes it allocate what is not there', async () => {
    const image = makeLibvirt({ dataLength: DEFAULT_LIMITS.libvirtBytes });
    expect((await refusal(readLibvirtHeader(pipe(image)))).code).toBe('E_TRUNCATED');
  });

  test('any header is read or refused', async () => {
    const numbers = fc.nat({ max: 0xffffffff });
    await fc.assert(
      fc.asyncProperty(
        fc.record(
          {
            byteOrder: fc.constantFrom('little' as const, 'big' as const),
            version: fc.oneof(fc.integer({ min: 0, max: 3 }), numbers),
            dataLength: fc.oneof(fc.nat({ max: 60 }), numbers),
            format: fc.oneof(fc.nat({ max: 8 }), numbers),
            cookieOffset: fc.oneof(fc.nat({ max: 60 }), numbers),
          },
          { requiredKeys: [] },
        ),
        async (recipe) => {
          const image = makeLibvirt(recipe);
          await read(image).then(
            (header) => expect(header.streamOffset).toBeLessThanOrEqual(image.length),
            (error) => refusal(Promise.reject(error)),
          );
        },
      ),
    );
  });
});
