import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SlotPage } from '../../src/fd/software/page.js';
import { PageList } from '../../src/fd/software/pages.js';
import { SoftwareHtab } from '../../src/fd/software/vm.js';
import { R, V } from './software-support.js';

/** The slots at which the pages from `first` on begin. */
function walk(list: PageList, first: number): number[] {
  const firsts: number[] = [];
  for (const cursor = list.from(first); cursor.page !== undefined; cursor.next()) {
    firsts.push(cursor.page.first);
  }
  return firsts;
}

function check(firsts: readonly number[], asked: readonly number[]): void {
  const list = new PageList();
  const pages = new Map(firsts.map((first) => [first, new SlotPage(first)]));
  for (const page of pages.values()) list.add(page);
  const sorted = Float64Array.from(pages.keys()).sort();
  expect(walk(list, 0)).toEqual([...sorted]);
  for (const first of asked) {
    expect(walk(list, first)).toEqual([...sorted.filter((other) => other >= first)]);
    expect(list.get(first)).toBe(pages.get(first));
  }
}

describe('pages in order', () => {
  const first = fc.oneof(fc.nat(40), fc.nat(2 ** 29)).map((n) => n * 8192);

  test('any pages, made in any order', () => {
    fc.assert(
      fc.property(fc.array(first, { maxLength: 60 }), fc.array(first), (firsts, asked) =>
        check(firsts, [...asked, ...firsts]),
      ),
    );
  });

  test.each([
    ['ascending', (i: number) => i],
    ['descending', (i: number) => 5000 - i],
    // 2741 and 5000 have no common factor.
    ['scattered', (i: number) => (i * 2741) % 5000],
    ['in two places', (i: number) => (i % 2 === 0 ? i : 5000 - i)],
  ])('thousands, %s', (_name, number) => {
    const firsts = Array.from({ length: 4000 }, (_, i) => number(i) * 8192);
    check(firsts, [0, 8192, 511 * 8192, 512 * 8192, 3999 * 8192, 5000 * 8192, 2 ** 42]);
  });
});

test('an entry at a new place, and what is done with it, costs little among 100000 others', async () => {
  const vm = new SoftwareHtab({ order: 46 });
  // A generator of all slots: 5^17 is of full period among the odd numbers.
  let state = 1n;
  const slot = (): number => {
    state = (state * 762939453125n) % 2n ** 44n;
    return Number(state >> 2n);
  };
  const enter = (): number => {
    const index = slot();
    expect(vm.hEnter(index, V(1n), R(1n))).toBe('H_SUCCESS');
    return index;
  };
  for (let i = 0; i < 100000; i++) enter();
  const r = vm.descriptor({ startIndex: 2n ** 42n });
  // Sorting them all for each took a minute.
  for (let i = 0; i < 2000; i++) expect(vm.touch(enter())).toBe(true);
  expect(await r.read(4096)).toEqual(new Uint8Array());
  let changes = 0;
  for (let bytes = await r.read(4096); bytes.length > 0; bytes = await r.read(4096)) {
    changes += bytes.length / 24;
  }
  expect(changes).toBe(2000);
});
