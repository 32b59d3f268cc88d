import { lowerBound } from './lower-bound.js';
import { HPTE_BYTES } from './order.js';

/** Bytes of a page beside its room: its objects and its place in a table, rounded up. */
const PAGE_BYTES = 512;
const HPTE_WORDS = HPTE_BYTES / 4;
/** Capacity of a page that has outgrown none. */
const LEAST = 4;
/** How many entries may wait to be sorted in: what moves a whole page then moves it for that many. */
const WAITING = 64;
/** Entries are moved as words of this machine, which keeps their bytes as they are. */
const LITTLE = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Where a page keeps its entries: slots, and four words for each. */
export interface PageRoom {
  readonly slots: Uint16Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
}

/** Room for entries, in one buffer. */
function roomFor(entries: number): PageRoom {
  const buffer = new ArrayBuffer(entries * (HPTE_BYTES + 2));
  return {
    words: new Uint32Array(buffer, 0, entries * HPTE_WORDS),
    slots: new Uint16Array(buffer, entries * HPTE_BYTES, entries),
  };
}

// What waits is moved out of the way here while it is sorted in.
const KEYS = new Uint32Array(WAITING);
const MOVED = roomFor(WAITING);

/**
 * The used slots of one stretch of a table, packed in ascending order: the storage of
 * HashPageTable. Slots are numbers within the page, below 65536. An entry costs 18 bytes and the
 * slack of growing by half.
 *
 * Entries that come in ascending order, as those of a pass do, are packed at once. Others wait behind
 * them until someone looks or there are many of them; and what is emptied becomes zeros in its place.
 * So no order of writes makes each of them move the page.
 */
export class TablePage {
  #slots: Uint16Array<ArrayBuffer>;
  #words: Uint32Array<ArrayBuffer>;
  /** Positions in use: first those in ascending order, each slot once, then those that wait. */
  #length = 0;
  #sorted = 0;
  /** How many of them are zeros: emptied slots. */
  #dead = 0;
  /** No position has a slot above this one. */
  #last = -1;

  /** @param room where it may begin, until `fit`; default: its own */
  constructor(room: PageRoom = roomFor(LEAST)) {
    this.#slots = room.slots;
    this.#words = room.words;
  }

  /** Room in which a page of so many slots never grows. */
  static room(pageSlots: number): PageRoom {
    return roomFor(pageSlots + WAITING);
  }

  /**
   * A page with exactly these entries, the slots ascending. It takes both over.
   * @param entries from a multiple of four in their buffer on
   */
  static of(slots: Uint16Array<ArrayBuffer>, entries: Uint8Array<ArrayBuffer>): TablePage {
    const { buffer, byteOffset } = entries;
    const page = new TablePage({
      slots,
      words: new Uint32Array(buffer, byteOffset, slots.length * HPTE_WORDS),
    });
    page.#length = slots.length;
    page.#sorted = slots.length;
    page.#last = slots.at(-1) ?? -1;
    return page;
  }

  get empty(): boolean {
    return this.#dead === this.#length;
  }

  /** Bytes that it takes. */
  get memory(): number {
    return PAGE_BYTES + this.#slots.length * (HPTE_BYTES + 2);
  }

  get count(): number {
    this.#settle();
    return this.#length;
  }

  /** Bytes of the packed entries; entry `i` begins at `16 * i`. A view: writes change the table. */
  get entries(): Uint8Array {
    this.#settle();
    const { buffer, byteOffset } = this.#words;
    return new Uint8Array(buffer, byteOffset, this.#length * HPTE_BYTES);
  }

  /** The slot at a position below `count`, which is asked for first. */
  slotAt(i: number): number {
    return this.#slots[i] ?? 0;
  }

  /** Position of the first used slot that is not below `slot`. */
  find(slot: number): number {
    this.#settle();
    return lowerBound(this.#slots, this.#length, slot);
  }

  /** Sets `n` slots from `slot` on to the entries in `view` at `at`; all-zero ones are emptied. */
  set(slot: number, n: number, view: DataView, at: number): void {
    if (slot > this.#last && this.#sorted === this.#length) this.#append(slot, n, view, at);
    else this.#mix(slot, n, view, at);
  }

  /** For slots behind all others. */
  #append(slot: number, n: number, view: DataView, at: number): void {
    this.#require(n);
    const slots = this.#slots;
    const words = this.#words;
    let to = this.#length;
    for (let i = 0, from = at; i < n; i++, from += HPTE_BYTES) {
      const a = view.getUint32(from, LITTLE);
      const b = view.getUint32(from + 4, LITTLE);
      const c = view.getUint32(from + 8, LITTLE);
      const d = view.getUint32(from + 12, LITTLE);
      if ((a | b | c | d) === 0) continue;
      const word = to * HPTE_WORDS;
      words[word] = a;
      words[word + 1] = b;
      words[word + 2] = c;
      words[word + 3] = d;
      this.#last = slot + i;
      slots[to++] = slot + i;
    }
    this.#length = to;
    this.#sorted = to;
  }

  /** For slots among others. */
  #mix(slot: number, n: number, view: DataView, at: number): void {
    let i = lowerBound(this.#slots, this.#sorted, slot);
    for (let k = 0, from = at; k < n; k++, from += HPTE_BYTES) {
      const wanted = slot + k;
      if (this.#length - this.#sorted === WAITING || this.#length === this.#slots.length) {
        this.#require(1);
        i = lowerBound(this.#slots, this.#sorted, wanted);
      }
      if (i < this.#sorted && this.slotAt(i) < wanted) i++;
      if (i < this.#sorted && this.slotAt(i) === wanted) {
        if (this.#isDead(i)) this.#dead--;
        this.#put(i, view, from);
        if (this.#isDead(i)) this.#dead++;
        continue;
      }
      const to = this.#length;
      this.#put(to, view, from);
      if (this.#isDead(to)) {
        this.#clearWaiting(wanted, wanted + 1);
      } else {
        this.#slots[to] = wanted;
        this.#length++;
        this.#last = Math.max(this.#last, wanted);
      }
    }
  }

  #put(i: number, view: DataView, at: number): void {
    const word = i * HPTE_WORDS;
    for (let k = 0; k < HPTE_WORDS; k++) this.#words[word + k] = view.getUint32(at + 4 * k, LITTLE);
  }

  /** Empties `n` slots from `slot` on. */
  clear(slot: number, n: number): void {
    if (slot > this.#last) return;
    this.#clearWaiting(slot, slot + n);
    const from = lowerBound(this.#slots, this.#sorted, slot);
    const to = lowerBound(this.#slots, this.#sorted, slot + n);
    // Many, or the last ones, are taken out: others might be looked at again and again.
    if (to - from >= WAITING || to === this.#length) this.#cut(from, to);
    else for (let i = from; i < to; i++) this.#kill(i);
  }

  #clearWaiting(from: number, to: number): void {
    for (let i = this.#sorted; i < this.#length; i++) {
      const slot = this.slotAt(i);
      if (slot >= from && slot < to) this.#kill(i);
    }
  }

  #kill(i: number): void {
    if (this.#isDead(i)) return;
    this.#words.fill(0, i * HPTE_WORDS, (i + 1) * HPTE_WORDS);
    this.#dead++;
  }

  #isDead(i: number): boolean {
    const words = this.#words;
    const at = i * HPTE_WORDS;
    return !(words[at] || words[at + 1] || words[at + 2] || words[at + 3]);
  }

  /** Takes the positions [from, to) out of the sorted ones. */
  #cut(from: number, to: number): void {
    for (let i = from; i < to; i++) if (this.#isDead(i)) this.#dead--;
    this.#slots.copyWithin(from, to, this.#length);
    this.#words.copyWithin(from * HPTE_WORDS, to * HPTE_WORDS, this.#length * HPTE_WORDS);
    this.#length -= to - from;
    this.#sorted -= to - from;
    if (this.#sorted === this.#length) this.#last = this.#highest();
  }

  #highest(): number {
    return this.#length > 0 ? this.slotAt(this.#length - 1) : -1;
  }

  /** Makes room for `n` more entries and for one to wait. */
  #require(n: number): void {
    const capacity = this.#slots.length;
    if (this.#length - this.#sorted < WAITING && this.#length + n <= capacity) return;
    this.#settle();
    // With less to spare than this, settling would come too often.
    const spare = Math.min(WAITING, Math.floor(capacity / 4));
    const wanted = this.#length + Math.max(n, spare);
    if (wanted > capacity) this.#move(Math.max(LEAST, wanted, Math.ceil(this.#length * 1.5)));
  }

  #move(capacity: number): void {
    const { slots, words } = roomFor(capacity);
    slots.set(this.#slots.subarray(0, this.#length));
    words.set(this.#words.subarray(0, this.#length * HPTE_WORDS));
    this.#slots = slots;
    this.#words = words;
  }

  /** Moves into room of its own that is just large enough. */
  fit(): void {
    this.#settle();
    this.#move(this.#length);
  }

  /** Sorts in what waits, and takes out what is zero. */
  #settle(): void {
    if (this.#dead === 0 && this.#sorted === this.#length) return;
    const waiting = this.#takeWaiting();
    if (this.#dead > 0) this.#dropDead();
    this.#dead = 0;
    this.#merge(waiting);
    this.#last = this.#highest();
  }

  /** Moves what waits out of the way, in ascending order, the last of each slot. Returns how many. */
  #takeWaiting(): number {
    const first = this.#sorted;
    const n = this.#length - first;
    for (let k = 0; k < n; k++) KEYS[k] = this.slotAt(first + k) * WAITING + k;
    KEYS.subarray(0, n).sort();
    let count = 0;
    for (let k = 0; k < n; k++) {
      const key = KEYS[k] ?? 0;
      const slot = Math.floor(key / WAITING);
      if (k + 1 < n && Math.floor((KEYS[k + 1] ?? 0) / WAITING) === slot) continue;
      const i = first + (key % WAITING);
      if (this.#isDead(i)) continue;
      MOVED.slots[count] = slot;
      copyEntry(this.#words, i, MOVED.words, count++);
    }
    return count;
  }

  #dropDead(): void {
    let to = 0;
    for (let i = 0; i < this.#sorted; i++) {
      if (this.#isDead(i)) continue;
      this.#slots[to] = this.slotAt(i);
      copyEntry(this.#words, i, this.#words, to++);
    }
    this.#sorted = to;
  }

  /** Puts `n` entries that were moved out of the way into their places, from the last one on. */
  #merge(n: number): void {
    let end = this.#sorted;
    this.#sorted += n;
    this.#length = this.#sorted;
    for (let k = n; k > 0; k--) {
      const slot = MOVED.slots[k - 1] ?? 0;
      const at = lowerBound(this.#slots, end, slot);
      if (at < end) {
        this.#slots.copyWithin(at + k, at, end);
        this.#words.copyWithin((at + k) * HPTE_WORDS, at * HPTE_WORDS, end * HPTE_WORDS);
      }
      this.#slots[at + k - 1] = slot;
      copyEntry(MOVED.words, k - 1, this.#words, at + k - 1);
      end = at;
    }
  }
}

function copyEntry(source: Uint32Array, i: number, target: Uint32Array, to: number): void {
  const from = i * HPTE_WORDS;
  const at = to * HPTE_WORDS;
  for (let k = 0; k < HPTE_WORDS; k++) target[at + k] = source[from + k] ?? 0;
}
