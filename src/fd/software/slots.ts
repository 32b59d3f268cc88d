import { slotsOfOrder } from '../../htab/order.js';
import { OCCUPIED, SlotPage } from './page.js';

/**
 * The slots of an HPT. What it needs, and the time to walk it, grow with the entries and marks, not
 * with the order.
 */
export class SlotTable {
  /** Number of slots: 2^(order-4). */
  readonly slots: number;
  readonly #pages = new Map<number, SlotPage>();
  /** The keys of the map, ascending. */
  readonly #numbers: number[] = [];
  readonly #pageSlots: number;

  /** @param order 18 to 46 */
  constructor(readonly order: number) {
    this.slots = slotsOfOrder(order);
    // About 2^16 pages for a full table, within bounds that keep an insertion cheap.
    this.#pageSlots = 2 ** Math.min(13, Math.max(8, order - 4 - 16));
  }

  /** A cursor on the first item that is not below `slot`. */
  from(slot: number): SlotCursor {
    return new SlotCursor(this, slot);
  }

  /** A cursor on the item of `slot`, which is made if there is none. */
  at(slot: number): SlotCursor {
    const number = Math.floor(slot / this.#pageSlots);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = new SlotPage();
      this.#pages.set(number, page);
      this.#numbers.splice(this.pageIndex(number), 0, number);
    }
    page.at(slot % this.#pageSlots);
    // A new item is dead until it is filled; the cursor stands on it nevertheless.
    return new SlotCursor(this, slot, true);
  }

  /**
   * Empties every slot and keeps the "modified" marks: KVM_PPC_ALLOCATE_HTAB with the order that
   * the table has clears the HPT and leaves the reverse map as it is (kvmppc_alloc_reset_hpt,
   * arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1).
   */
  reset(): void {
    let left = 0;
    for (const number of this.#numbers) {
      const page = this.#pages.get(number);
      page?.clearEntries();
      page?.compact();
      if (page?.count === 0) this.#pages.delete(number);
      else this.#numbers[left++] = number;
    }
    this.#numbers.length = left;
  }

  get pageSlots(): number {
    return this.#pageSlots;
  }

  /** Position of the first page that is not below `number`. */
  pageIndex(number: number): number {
    const numbers = this.#numbers;
    let low = 0;
    let high = numbers.length;
    if (high > 0 && (numbers[high - 1] ?? 0) < number) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((numbers[middle] ?? 0) < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Number of the page at that position, or undefined beyond the last. */
  numberAt(index: number): number | undefined {
    return this.#numbers[index];
  }

  page(number: number): SlotPage | undefined {
    return this.#pages.get(number);
  }
}

/** A place among the items of a table. What it stands on is never dead, but for a new item. */
export class SlotCursor {
  readonly #table: SlotTable;
  #index: number;
  #number = 0;
  #page: SlotPage | undefined;
  #i = 0;
  #slot = 0;

  constructor(table: SlotTable, slot: number, exact = false) {
    this.#table = table;
    const number = Math.floor(slot / table.pageSlots);
    this.#index = table.pageIndex(number);
    this.#enter();
    if (this.#page !== undefined && this.#number === number) {
      this.#i = this.#page.find(slot % table.pageSlots);
    }
    if (exact) this.#slot = slot;
    else this.#settle();
  }

  /** Slot of the item; the number of slots of the table behind the last one. */
  get slot(): number {
    return this.#slot;
  }

  /** The page that the item is in. @throws RangeError behind the last item */
  get page(): SlotPage {
    if (this.#page === undefined) throw new RangeError('the cursor is behind the last slot');
    return this.#page;
  }

  /** Position of the item in its page. */
  get i(): number {
    return this.#i;
  }

  get state(): number {
    return this.#page?.stateAt(this.#i) ?? 0;
  }

  get flags(): number {
    return this.#page?.flagsAt(this.#i) ?? 0;
  }

  get occupied(): boolean {
    return (this.flags & OCCUPIED) !== 0;
  }

  next(): void {
    this.#i++;
    this.#settle();
  }

  /** On to the first item whose state is not 0, this one included. */
  toDirty(): void {
    while (this.#page !== undefined && this.state === 0) {
      if (this.#page.dirty === 0) {
        this.#index++;
        this.#enter();
        this.#settle();
      } else {
        this.next();
      }
    }
  }

  #enter(): void {
    const number = this.#table.numberAt(this.#index);
    this.#number = number ?? 0;
    this.#page = number === undefined ? undefined : this.#table.page(number);
    this.#i = 0;
  }

  /** Passes dead items and the ends of pages. */
  #settle(): void {
    while (this.#page !== undefined) {
      while (this.#i < this.#page.count && this.#page.isDead(this.#i)) this.#i++;
      if (this.#i < this.#page.count) {
        this.#slot = this.#number * this.#table.pageSlots + this.#page.slotAt(this.#i);
        return;
      }
      this.#index++;
      this.#enter();
    }
    this.#slot = this.#table.slots;
  }
}
