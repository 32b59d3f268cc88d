import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RamImage } from '../../src/memory/ram-image.js';
import { WrittenPages } from '../../src/memory/written.js';
import { contentOf, memory, PAGE, pageOf, WatchedFile } from './guests.js';

describe('WrittenPages', () => {
  const ranges = fc.array(fc.record({ at: fc.nat(299), length: fc.integer({ min: 1, max: 70 }) }));

  test('finds what a plain set finds, of pages', () => {
    fc.assert(
      fc.property(ranges, fc.nat(299), fc.nat(299), (list, a, b) => {
        const written = new WrittenPages(400 * PAGE);
        const plain = new Set<number>();
        for (const { at, length } of list) {
          written.mark(at * PAGE, length * PAGE);
          for (let i = 0; i < length; i++) plain.add(at + i);
        }
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        let expected = from;
        while (expected < to && !plain.has(expected)) expected++;
        expect(written.next(from * PAGE, to * PAGE)).toBe(expected * PAGE);
      }),
    );
  });

  test('a large file costs no more than the limit', () => {
    const written = new WrittenPages(2 ** 50, 64);
    expect(written.granule).toBe(2 ** 44);
    written.mark(3 * 2 ** 44 + PAGE, PAGE);
    expect(written.next(0, 2 ** 50)).toBe(3 * 2 ** 44);
    expect(written.next(3 * 2 ** 44 + 5 * PAGE, 2 ** 50)).toBe(3 * 2 ** 44 + 5 * PAGE);
    expect(written.next(4 * 2 ** 44, 2 ** 50)).toBe(2 ** 50);
  });
});

describe('RamImage', () => {
  test('stays sparse when pages share a bit', async () => {
    const file = new WatchedFile();
    const image = await RamImage.create(file, 64 * PAGE, { bitmapLimit: 2 });
    const window = Buffer.concat([pageOf(1), pageOf(2), pageOf(3)]);
    image.page(3 * PAGE, window, 0);
    image.zero(4 * PAGE, 0);
    image.page(5 * PAGE, window, PAGE);
    image.page(33 * PAGE, window, 2 * PAGE);
    await image.settle();
    for (let page = 0; page < 5; page++) image.zero(page * PAGE, 0);
    await image.finish();
    expect(file.writes).toEqual([
      [3 * PAGE, PAGE],
      [5 * PAGE, PAGE],
      [33 * PAGE, PAGE],
      [3 * PAGE, PAGE],
    ]);
    const expected = memory(64, { 5: pageOf(2), 33: pageOf(3) });
    expect((await contentOf(file)).equals(expected)).toBe(true);
  });

  test('a block that is no whole number of pages keeps its size', async () => {
    const file = new WatchedFile();
    const image = await RamImage.create(file, PAGE + 100);
    image.page(PAGE, pageOf(1), 0);
    await image.finish();
    expect(file.size).toBe(PAGE + 100);
  });
});
