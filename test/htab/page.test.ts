import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TablePage } from '../../src/htab/page.js';

test('a page made of entries is like one that was filled', () => {
  const bytes = Uint8Array.from({ length: 48 }, (_, i) => i + 1);
  const view = new DataView(bytes.buffer);
  const page = TablePage.of(Uint16Array.of(3, 9, 10), bytes.slice());
  const filled = new TablePage();
  for (const [i, slot] of [3, 9, 10].entries()) filled.set(slot, 1, view, i * 16);
  for (const one of [page, filled]) {
    // Both go on alike: an entry before, between, instead of and behind what is there.
    for (const slot of [1, 9, 8, 500]) one.set(slot, 1, view, 16);
    one.clear(10, 1);
    expect(one.count).toBe(5);
    expect([0, 1, 2, 3, 4].map((i) => one.slotAt(i))).toEqual([1, 3, 8, 9, 500]);
    expect(one.find(9)).toBe(3);
  }
  expect(page.entries).toEqual(filled.entries);
});

const SLOTS = 400;

/** Something that happens to a page, and to a plain list of its slots: see `play`. */
type Step = (page: TablePage, slots: (string | undefined)[]) => void;

/** Entries that are told apart by a number; those of 0 are all zero. They may begin anywhere. */
function set(slot: number, marks: readonly number[], shift: number): Step {
  const bytes = Buffer.alloc(shift + 16 * marks.length, 0xee);
  for (const [i, mark] of marks.entries()) {
    bytes.fill(0, shift + 16 * i, shift + 16 * (i + 1));
    // One byte, so that no other part of the entry tells that it is not zero.
    if (mark > 0) bytes[shift + 16 * i + (mark % 16)] = mark;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return (page, slots) => {
    page.set(slot, marks.length, view, shift);
    for (const [i, mark] of marks.entries()) {
      const at = shift + 16 * i;
      slots[slot + i] = mark > 0 ? bytes.toString('hex', at, at + 16) : undefined;
    }
  };
}

function clear(slot: number, n: number): Step {
  return (page, slots) => {
    page.clear(slot, n);
    slots.fill(undefined, slot, slot + n);
  };
}

const mark = fc.oneof(fc.nat(255), fc.constant(0));
const slot = fc.nat(SLOTS - 1);

const step: fc.Arbitrary<Step[]> = fc.oneof(
  fc
    .tuple(slot, fc.array(mark, { minLength: 1, maxLength: 90 }), fc.nat(7))
    .map(([from, marks, shift]) => [set(from, marks.slice(0, SLOTS - from), shift)]),
  fc
    .tuple(slot, fc.oneof(fc.nat(3), fc.nat(SLOTS)))
    .map(([from, n]) => [clear(from, Math.min(n, SLOTS - from))]),
  // Many alone, each before the last, behind it, or in the same slot: more than may wait.
  fc
    .tuple(slot, fc.integer({ min: -3, max: 3 }), fc.array(mark, { maxLength: 150 }))
    .map(([from, by, marks]) =>
      marks.map((one, i) => set((((from + i * by) % SLOTS) + SLOTS) % SLOTS, [one], 0)),
    ),
  // An entry, and at once its slot or the one before it emptied.
  fc
    .tuple(slot, fc.integer({ min: -2, max: 2 }), fc.array(mark, { maxLength: 150 }))
    .map(([from, by, marks]) =>
      marks.flatMap((one, i) => {
        const at = (((from + i * by) % SLOTS) + SLOTS) % SLOTS;
        return [set(at, [one], 0), clear(Math.max(0, at - (one % 2)), 1)];
      }),
    ),
  fc.constant<Step[]>([(page) => page.fit()]),
  fc.constant<Step[]>([(page) => void page.count]),
);

test('a page is what was written last, in whatever order', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, lent) => {
      const page = lent ? new TablePage(TablePage.room(SLOTS)) : new TablePage();
      const slots: (string | undefined)[] = Array(SLOTS).fill(undefined);
      for (const act of steps.flat()) {
        act(page, slots);
        // Asked before anything is sorted in.
        expect(page.empty).toBe(slots.every((entry) => entry === undefined));
      }
      const used = slots.flatMap((entry, i) => (entry === undefined ? [] : [{ i, entry }]));
      expect(page.count).toBe(used.length);
      expect(used.map((_, n) => page.slotAt(n))).toEqual(used.map(({ i }) => i));
      expect(Buffer.from(page.entries).toString('hex')).toBe(used.map((u) => u.entry).join(''));
      for (const probe of [0, 100, SLOTS]) {
        expect(page.find(probe)).toBe(used.filter(({ i }) => i < probe).length);
      }
    }),
    { numRuns: 300 },
  );
});

test('an entry that waits is emptied, whichever entries before it are taken out', () => {
  const page = new TablePage();
  const bytes = Buffer.alloc(16 * 100, 1);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  page.set(100, 100, view, 0);
  page.set(300, 1, view, 0);
  // These two wait, the lower one behind the higher one.
  page.set(250, 1, view, 0);
  page.set(50, 1, view, 0);
  page.clear(100, 100);
  page.clear(250, 1);
  page.clear(300, 1);
  expect(page.count).toBe(1);
  expect(page.slotAt(0)).toBe(50);
});

test('a page in lent room never outgrows it', () => {
  const room = TablePage.room(SLOTS);
  const page = new TablePage(room);
  const bytes = Buffer.alloc(16, 1);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  for (let i = 0; i < 10 * SLOTS; i++) page.set((i * 263) % SLOTS, 1, view, 0);
  expect(page.count).toBe(SLOTS);
  expect(page.entries.buffer).toBe(room.words.buffer);
  page.fit();
  expect(page.entries.buffer.byteLength).toBe(SLOTS * 18);
});
