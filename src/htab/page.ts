import { lowerBound } from './lower-bound.js';
import { HPTE_BYTES } from './order.js';

const INITIAL = 4;

/**
 * The used slots of one stretch of a table, packed in ascending order: the storage of
 * HashPageTable. Slots are numbers within the page, below 65536. An entry costs 18 bytes and the
 * slack of growing by half.
 */
export class TablePage {
  #slots = new Uint16Array(INITIAL);
  #entries = new Uint8Array(INITIAL * HPTE_BYTES);
  #count = 0;

  /** A page with exactly these entries, the slots ascending. It takes both over. */
  static of(slots: Uint16Array<ArrayBuffer>, entries: Uint8Array<ArrayBuffer>): TablePage {
    const page = new TablePage();
    page.#slots = slots;
    page.#entries = entries;
    page.#count = slots.length;
    return page;
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes of the packed entries; entry `i` begins at `16 * i`. A view: writes change the table. */
  get entries(): Uint8Array {
    return this.#entries.subarray(0, this.#count * HPTE_BYTES);
  }

  slotAt(i: number): number {
    return this.#slots[i] ?? 0;
  }

  /** Position of the first used slot that is not below `slot`. */
  find(slot: number): number {
    return lowerBound(this.#slots, this.#count, slot);
  }

  /** Sets `n` slots from `slot` on to the entries in `bytes` at `at`. */
  set(slot: number, n: number, bytes: Uint8Array, at: number): void {
    const from = this.find(slot);
    const to = from === this.#count ? from : this.find(slot + n);
    this.#resize(from, to, n);
    for (let i = 0; i < n; i++) this.#slots[from + i] = slot + i;
    this.#entries.set(bytes.subarray(at, at + n * HPTE_BYTES), from * HPTE_BYTES);
  }

  /** Empties `n` slots from `slot` on. */
  clear(slot: number, n: number): void {
    const from = this.find(slot);
    if (from === this.#count) return;
    const to = this.find(slot + n);
    if (to > from) this.#resize(from, to, 0);
  }

  /** Makes the positions [from, to) `n` positions wide. */
  #resize(from: number, to: number, n: number): void {
    const count = this.#count - (to - from) + n;
    if (count > this.#slots.length) {
      const capacity = Math.max(count, Math.ceil(this.#slots.length * 1.5));
      const slots = new Uint16Array(capacity);
      slots.set(this.#slots.subarray(0, this.#count));
      this.#slots = slots;
      const entries = new Uint8Array(capacity * HPTE_BYTES);
      entries.set(this.#entries.subarray(0, this.#count * HPTE_BYTES));
      this.#entries = entries;
    }
    if (to < this.#count && to - from !== n) {
      this.#slots.copyWithin(from + n, to, this.#count);
      this.#entries.copyWithin((from + n) * HPTE_BYTES, to * HPTE_BYTES, this.#count * HPTE_BYTES);
    }
    this.#count = count;
  }
}
