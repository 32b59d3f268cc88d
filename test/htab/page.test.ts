import { expect, test } from 'vitest';
import { TablePage } from '../../src/htab/page.js';

test('a page made of entries is like one that was filled', () => {
  const bytes = Uint8Array.from({ length: 48 }, (_, i) => i + 1);
  const page = TablePage.of(Uint16Array.of(3, 9, 10), bytes.slice());
  const filled = new TablePage();
  for (const [i, slot] of [3, 9, 10].entries()) filled.set(slot, 1, bytes, i * 16);
  for (const one of [page, filled]) {
    // Both go on alike: an entry before, between, instead of and behind what is there.
    for (const slot of [1, 9, 8, 500]) one.set(slot, 1, bytes, 16);
    one.clear(10, 1);
    expect(one.count).toBe(5);
    expect([0, 1, 2, 3, 4].map((i) => one.slotAt(i))).toEqual([1, 3, 8, 9, 500]);
    expect(one.find(9)).toBe(3);
  }
  expect(page.entries).toEqual(filled.entries);
});
