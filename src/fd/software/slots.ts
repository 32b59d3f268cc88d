import { slotsOfOrder } from '../../htab/order.js';
import { TableMemory } from '../../htab/table-memory.js';
import { type LimitOptions, type Limits, limitsOf } from '../../limits.js';
import { OCCUPIED, SlotPage } from './page.js';
import { type PageCursor, PageList } from './pages.js';

/** Items or pages that are passed in one piece. */
const PIECE = 1 << 11;

/**
 * The slots of an HPT. What it needs, and the time to walk it, grow with the entries and marks, not
 * with the order.
 */
export class SlotTable {
  /** Number of slots: 2^(order-4). */
  readonly slots: number;
  /** Slots of a page: a power of two. */
  readonly pageSlots: number;
  #pages = new PageList();
  #last: SlotPage | undefined;
  /** Of the pages. */
  #memory: TableMemory;
  readonly #limits: Limits;

  /**
   * @param order 18 to 46
   * @param limits of them, `tableBytes` counts here
   */
  constructor(
    readonly order: number,
    limits?: LimitOptions,
  ) {
    this.#limits = limitsOf(limits);
    this.#memory = new TableMemory(this.#limits);
    this.slots = slotsOfOrder(order);
    // About 2^16 pages for a full table, within bounds that keep an insertion cheap.
    this.pageSlots = 2 ** Math.min(13, Math.max(8, order - 4 - 16));
  }

  /** The page of a slot, or the next one, and those behind it. */
  pagesFrom(slot: number): PageCursor {
    return this.#pages.from(this.#firstOf(slot));
  }

  /** The page of a slot, if it exists. */
  pageOf(slot: number): SlotPage | undefined {
    const first = this.#firstOf(slot);
    if (this.#last?.first !== first) this.#last = this.#pages.get(first);
    return this.#last;
  }

  /** The page of a slot, which is made if it does not exist. @throws LimitError */
  makePage(slot: number): SlotPage {
    const found = this.pageOf(slot);
    if (found !== undefined) return found;
    const page = new SlotPage(this.#firstOf(slot), (bytes) => this.#memory.take(bytes));
    this.#pages.add(page);
    this.#last = page;
    return page;
  }

  #firstOf(slot: number): number {
    return slot - (slot % this.pageSlots);
  }

  /** A cursor on the first item that is not below `slot`. */
  from(slot: number): SlotCursor {
    return new SlotCursor(this, slot);
  }

  /**
   * Empties every slot and keeps the "modified" marks: KVM_PPC_ALLOCATE_HTAB with the order that
   * the table has clears the HPT and leaves the reverse map as it is (kvmppc_alloc_reset_hpt,
   * arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1).
   */
  reset(): void {
    const kept = new PageList();
    const memory = new TableMemory(this.#limits);
    for (const cursor = this.#pages.from(0); cursor.page !== undefined; cursor.next()) {
      const { page } = cursor;
      page.clearEntries();
      page.compact();
      if (page.count === 0) continue;
      kept.add(page);
      memory.take(page.memory);
    }
    this.#pages = kept;
    this.#memory = memory;
    this.#last = undefined;
  }
}

/** A place among the items of a table. Dead ones count: they are clean and empty. */
export class SlotCursor {
  readonly #pages: PageCursor;
  readonly #slots: number;
  /** The page that the item is in; undefined behind the last item. */
  #page: SlotPage | undefined;
  /** Position of the item in its page. */
  i = 0;
  /** Slot of the item; the number of slots of the table behind the last one. */
  slot = 0;

  constructor(table: SlotTable, slot: number) {
    this.#pages = table.pagesFrom(slot);
    this.#slots = table.slots;
    this.#page = this.#pages.page;
    if (this.#page !== undefined) this.i = this.#page.find(slot - this.#page.first);
    this.#settle();
  }

  /** @throws RangeError behind the last item */
  get page(): SlotPage {
    if (this.#page === undefined) throw new RangeError('the cursor is behind the last slot');
    return this.#page;
  }

  get state(): number {
    return this.#page === undefined ? 0 : this.#page.stateAt(this.i);
  }

  get flags(): number {
    return this.#page === undefined ? 0 : this.#page.flagsAt(this.i);
  }

  get occupied(): boolean {
    return (this.flags & OCCUPIED) !== 0;
  }

  next(): void {
    this.i++;
    this.#settle();
  }

  /**
   * On to the first item whose state is not 0, this one included.
   * @returns false when it has only come a piece of the way
   */
  toDirty(): boolean {
    for (let done = 0; this.#page !== undefined && this.#page.stateAt(this.i) === 0; done++) {
      if (done === PIECE) return false;
      if (this.#page.dirty > 0) this.i++;
      else this.i = this.#page.count;
      this.#settle();
    }
    return true;
  }

  /** Passes the ends of pages. */
  #settle(): void {
    let page = this.#page;
    while (page !== undefined && this.i >= page.count) {
      this.#pages.next();
      page = this.#pages.page;
      this.#page = page;
      this.i = 0;
    }
    this.slot = page === undefined ? this.#slots : page.first + page.slotAt(this.i);
  }
}
