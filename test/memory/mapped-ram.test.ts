import { BufferSource, type ByteSource, IterableSource } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { detectBitmapOrder } from '../../src/memory/mapped-ram.js';
import { type ReadRamOptions, readRam } from '../../src/memory/read-ram.js';
import { random } from '../helpers/sources.js';
import { contentOf, entries, mappedGuest, memory, PAGE, pageOf, WatchedFile } from './guests.js';

async function read(source: ByteSource, options: ReadRamOptions = {}) {
  const file = new WatchedFile();
  const result = await readRam(source, options, file);
  return { file, result, content: await contentOf(file) };
}

/** A file that gives one byte for each read. */
class ByteByByte extends BufferSource {
  override read(target: Uint8Array, position: number): Promise<number> {
    return super.read(target.subarray(0, 1), position);
  }
}

/** What a header right in front of its bitmap says. */
const regionAt = (bitmapOffset: number, pagesOffset: number) => ({
  headerOffset: bitmapOffset - 28,
  pageSize: PAGE,
  bitmapOffset,
  pagesOffset,
});

const ORDERS = ['little', 'big'] as const;
const content = { 0: pageOf(1), 1: pageOf(2), 9: pageOf(3), 63: pageOf(4), 64: pageOf(5) };

describe('mapped-ram', () => {
  describe.each(ORDERS)('with a bitmap of a %s-endian host', (order) => {
    test.each([70, 128, 200])('%i pages', async (pages) => {
      const { bytes } = mappedGuest(pages, content, { order });
      const { file, result, content: got } = await read(new BufferSource(bytes));
      expect(got.equals(memory(pages, content))).toBe(true);
      expect(result).toMatchObject({
        mapped: true,
        bitmapByteOrder: order,
        pages: 5,
        zeroPages: 0,
        size: pages * PAGE,
      });
      expect(file.writes).toEqual([
        [0, 2 * PAGE],
        [9 * PAGE, PAGE],
        [63 * PAGE, 2 * PAGE],
      ]);
    });

    test('in a larger file, at an odd offset: positions are absolute', async () => {
      const { bytes } = mappedGuest(70, content, { order, prefix: 70001 });
      const { content: got } = await read(new BufferSource(bytes), { start: 70001 });
      expect(got.equals(memory(70, content))).toBe(true);
    });

    test('pages without their bit are zero, whatever stands in their place', async () => {
      const stale = { 2: pageOf(9), 100: pageOf(9) };
      const { bytes } = mappedGuest(128, content, { order, stale });
      const { result, content: got } = await read(new BufferSource(bytes));
      expect(result.bitmapByteOrder).toBe(order);
      expect(got.equals(memory(128, content))).toBe(true);
    });

    test('one byte at a time', async () => {
      const few = { 3: pageOf(1) };
      const { bytes } = mappedGuest(8, few, { order });
      const { content: got } = await read(new ByteByByte(bytes));
      expect(got.equals(memory(8, few))).toBe(true);
    });

    test('any pages, of which many were written and became zero', async () => {
      const next = random(order.length);
      for (let run = 0; run < 10; run++) {
        const pages = 65 + Math.floor(next() * 300);
        const all: Record<number, Buffer> = {};
        const stale: Record<number, Buffer> = {};
        for (let page = 0; page < pages; page++) {
          const what = next();
          if (what < 0.4) all[page] = pageOf(1 + (page % 250));
          else if (what < 0.55) stale[page] = pageOf(3);
        }
        const { bytes } = mappedGuest(pages, all, { order, stale });
        const { result, content: got } = await read(new BufferSource(bytes));
        expect(result.bitmapByteOrder).toBe(order);
        expect(got.equals(memory(pages, all))).toBe(true);
      }
    });
  });

  test('the bitmap, byte for byte', () => {
    const little = mappedGuest(128, content);
    expect(little.bytes.subarray(little.bitmapAt, little.bitmapAt + 16).toString('hex')).toBe(
      '03020000000000800100000000000000',
    );
    const big = mappedGuest(128, content, { order: 'big' });
    expect(big.bytes.subarray(big.bitmapAt, big.bitmapAt + 16).toString('hex')).toBe(
      '80000000000002030000000000000001',
    );
  });

  test('the bits behind the last page tell the order alone', async () => {
    for (const order of ORDERS) {
      const guest = mappedGuest(70, { 64: Buffer.alloc(PAGE) }, { order });
      const region = regionAt(guest.bitmapAt, guest.pagesAt);
      const source = new BufferSource(guest.bytes);
      expect(await detectBitmapOrder(source, region, 70 * PAGE)).toBe(order);
    }
  });

  test('where both readings agree, nothing is told and nothing needs to be', async () => {
    const all = Object.fromEntries(Array.from({ length: 64 }, (_, i) => [i, pageOf(i + 1)]));
    const { bytes, bitmapAt, pagesAt } = mappedGuest(64, all);
    const region = regionAt(bitmapAt, pagesAt);
    const source = new BufferSource(bytes);
    expect(await detectBitmapOrder(source, region, 64 * PAGE)).toBeUndefined();
    const { content: got } = await read(source);
    expect(got.equals(memory(64, all))).toBe(true);
  });

  test('the caller knows the order better', async () => {
    const { bytes } = mappedGuest(128, content);
    const { result, content: got } = await read(new BufferSource(bytes), {
      bitmapByteOrder: 'big',
    });
    expect(result.bitmapByteOrder).toBe('big');
    expect(got.equals(memory(128, content))).toBe(false);
  });

  test('a pipe is refused before it is read through', async () => {
    const { bytes } = mappedGuest(70, content);
    await expect(read(new IterableSource([bytes]))).rejects.toMatchObject({
      name: 'UsageError',
      code: 'E_NOT_SEEKABLE',
    });
  });

  test('the file ends in the pages', async () => {
    const { bytes, pagesAt } = mappedGuest(70, content);
    const cut = bytes.subarray(0, pagesAt + 9 * PAGE + 5);
    await expect(read(new BufferSource(cut))).rejects.toMatchObject({ code: 'E_TRUNCATED' });
  });

  test('a page in the stream all the same', async () => {
    const round = entries.zero(0, 0, 'ppc_spapr.ram');
    const { bytes } = mappedGuest(70, content, { round });
    await expect(read(new BufferSource(bytes))).rejects.toMatchObject({
      code: 'E_RAM',
      offset: bytes.lastIndexOf(round),
    });
  });

  test('pages that are not aligned', async () => {
    const { bytes, bitmapAt, pagesAt } = mappedGuest(70, content);
    const wrong = Buffer.from(bytes);
    wrong.writeBigUInt64BE(BigInt(pagesAt + 1), bitmapAt - 8);
    await expect(read(new BufferSource(wrong))).rejects.toMatchObject({
      code: 'E_RAM',
      offset: bitmapAt - 28,
    });
  });
});
