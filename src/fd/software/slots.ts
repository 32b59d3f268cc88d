import { slotsOfOrder } from '../../htab/order.js';
import { OCCUPIED, SlotPage } from './page.js';

/**
 * The slots of an HPT. What it needs, and the time to walk it, grow with the entries and marks, not
 * with the order.
 */
export class SlotTable {
  /** Number of slots: 2^(order-4). */
  readonly slots: number;
  /** Slots of a page: a power of two. */
  readonly pageSlots: number;
  readonly #pages = new Map<number, SlotPage>();
  /** The pages in ascending order, once somebody asks; appended to while they come in that order. */
  #ordered: SlotPage[] | undefined = [];
  #last: SlotPage | undefined;

  /** @param order 18 to 46 */
  constructor(readonly order: number) {
    this.slots = slotsOfOrder(order);
    // About 2^16 pages for a full table, within bounds that keep an insertion cheap.
    this.pageSlots = 2 ** Math.min(13, Math.max(8, order - 4 - 16));
  }

  /** The pages that exist, in ascending order. */
  get pages(): readonly SlotPage[] {
    this.#ordered ??= [...this.#pages.values()].sort((a, b) => a.first - b.first);
    return this.#ordered;
  }

  /** The page of a slot, if it exists. */
  pageOf(slot: number): SlotPage | undefined {
    const first = slot - (slot % this.pageSlots);
    if (this.#last?.first !== first) this.#last = this.#pages.get(first);
    return this.#last;
  }

  /** The page of a slot, which is made if it does not exist. */
  makePage(slot: number): SlotPage {
    const found = this.pageOf(slot);
    if (found !== undefined) return found;
    const page = new SlotPage(slot - (slot % this.pageSlots));
    this.#pages.set(page.first, page);
    this.#last = page;
    const ordered = this.#ordered;
    if (ordered !== undefined) {
      const last = ordered.at(-1);
      if (last === undefined || last.first < page.first) ordered.push(page);
      else this.#ordered = undefined;
    }
    return page;
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
    for (const page of this.#pages.values()) {
      page.clearEntries();
      page.compact();
      if (page.count === 0) this.#pages.delete(page.first);
    }
    this.#ordered = undefined;
    this.#last = undefined;
  }
}

/** A place among the items of a table. Dead ones count: they are clean and empty. */
export class SlotCursor {
  readonly #pages: readonly SlotPage[];
  readonly #slots: number;
  #index: number;
  /** The page that the item is in; undefined behind the last item. */
  #page: SlotPage | undefined;
  /** Position of the item in its page. */
  i = 0;
  /** Slot of the item; the number of slots of the table behind the last one. */
  slot = 0;

  constructor(table: SlotTable, slot: number) {
    this.#pages = table.pages;
    this.#slots = table.slots;
    const first = slot - (slot % table.pageSlots);
    this.#index = positionOf(this.#pages, first);
    this.#page = this.#pages[this.#index];
    if (this.#page?.first === first) this.i = this.#page.find(slot - first);
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

  /** On to the first item whose state is not 0, this one included. */
  toDirty(): void {
    while (this.#page !== undefined && this.#page.stateAt(this.i) === 0) {
      if (this.#page.dirty > 0) this.i++;
      else this.i = this.#page.count;
      this.#settle();
    }
  }

  /** Passes the ends of pages. */
  #settle(): void {
    let page = this.#page;
    while (page !== undefined && this.i >= page.count) {
      this.#index++;
      page = this.#pages[this.#index];
      this.#page = page;
      this.i = 0;
    }
    this.slot = page === undefined ? this.#slots : page.first + page.slotAt(this.i);
  }
}

/** Position of the first page that does not begin below `first`. */
function positionOf(pages: readonly SlotPage[], first: number): number {
  let low = 0;
  let high = pages.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((pages[middle]?.first ?? 0) < first) low = middle + 1;
    else high = middle;
  }
  return low;
}
