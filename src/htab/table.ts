import { Pace } from '../bytes/pace.js';
import { FormatError } from '../errors.js';
import { type LimitOptions, type Limits, limitsOf } from '../limits.js';
import { BlockBatch, type HtabBlock } from './block.js';
import {
  clearSoftwareBits,
  FLAG_BOLTED,
  FLAG_LARGE,
  FLAG_VALID,
  FLAGS_BYTE,
  type Hpte,
} from './hpte.js';
import type { HtabItem, HtabItems } from './items.js';
import { noHpt, orderRequired } from './missing.js';
import { HPTE_BYTES, isOrder, noSuchOrder, slotsOfOrder } from './order.js';
import { type PageRoom, TablePage } from './page.js';
import { RunBuilder } from './runs.js';
import { TableMemory } from './table-memory.js';

/**
 * Slots of one page. Large enough that what a page costs itself is little beside its entries even in
 * a thinly filled table; small enough that nothing done to one takes long.
 */
const PAGE_SLOTS = 8192;

/** Bytes of blocks that are applied before the event loop may have its turn. */
const PIECE = 64 * 1024;

/** How many entries a table holds. */
export interface HptCounts {
  /** Entries with V set. */
  readonly valid: number;
  /** Valid entries with the bolted bit. */
  readonly bolted: number;
  /** Valid entries with L set: pages larger than 4 KiB. */
  readonly large: number;
  /** Slots that hold something without V: a producer's error, and never part of canonical blocks. */
  readonly notValid: number;
}

/** Ways to write a table as blocks that every reader takes. */
export type CanonicalFraming =
  /** Every slot is covered: gaps count as invalid, as in the kernel's first pass. */
  | 'kernel'
  /** Valid entries only, as QEMU's first pass under TCG. */
  | 'qemu';

/**
 * A hashed page table in memory. What it needs grows with the entries, not with the order.
 *
 * Slots that no block has mentioned are empty; the last writer wins (hw/ppc/spapr.c htab_load).
 */
export class HashPageTable {
  /** Number of slots: 2^(order-4). */
  readonly slots: number;
  readonly #pages = new Map<number, TablePage>();
  /** No page has a number above this one. */
  #top = -1;
  /** The page that was written last: the next block is mostly for the same. */
  #page: TablePage | undefined;
  #number = -1;
  /** Pages begin in this room, one at a time, and get their own when it is known how much they need. */
  #room: PageRoom | undefined;
  #fresh: TablePage | undefined;

  /** Of the pages, but for the one that is still in the room. */
  readonly #memory: TableMemory;

  /**
   * @param limits of them, `tableBytes` counts here. Default: DEFAULT_LIMITS
   * @throws UsageError `E_ORDER` unless `order` is 18 to 46
   */
  constructor(
    /** log2 of the table's size in bytes. */
    readonly order: number,
    limits?: LimitOptions,
  ) {
    this.#memory = new TableMemory(limits);
    if (!isOrder(order)) throw noSuchOrder(order);
    this.slots = slotsOfOrder(order);
  }

  /**
   * Builds a table from items; a later order word begins it anew.
   * @param order for items that carry none (the kernel's framing)
   * @param limits of them, `tableBytes` counts here. Default: DEFAULT_LIMITS
   * @throws UnsupportedError `E_NO_HPT` for a radix guest; UsageError `E_ORDER_REQUIRED`; LimitError
   */
  static async from(
    items: HtabItems,
    order?: number,
    limits?: LimitOptions,
  ): Promise<HashPageTable> {
    const builder = new TableBuilder(order, limits);
    const pace = new Pace(undefined);
    for await (const item of items) {
      if (item.type !== 'blocks') {
        builder.add(item);
        continue;
      }
      for (const batch of item.batch.pieces(PIECE)) {
        builder.add({ type: 'blocks', batch });
        if (pace.due) await pace.pause();
      }
    }
    return builder.finish();
  }

  /**
   * Applies blocks in their order: entries replace what is in their slots, invalid slots are
   * emptied.
   * @throws FormatError `E_BLOCK_RANGE` for a block that reaches beyond the table; LimitError;
   *   RangeError for a block whose counts and entries do not agree
   */
  apply(blocks: BlockBatch | Iterable<HtabBlock>): void {
    if (blocks instanceof BlockBatch) {
      this.#applyBatch(blocks);
      return;
    }
    for (const { index, nValid, nInvalid, entries } of blocks) {
      if (!(index >= 0) || nInvalid < 0 || entries.length !== nValid * HPTE_BYTES) {
        throw miscounted(index, nValid, entries.length);
      }
      const { buffer, byteOffset, length } = entries;
      this.#apply(index, nValid, nInvalid, new DataView(buffer, byteOffset, length), 0, undefined);
    }
  }

  #applyBatch(batch: BlockBatch): void {
    const { buffer, byteOffset, length } = batch.bytes;
    const view = new DataView(buffer, byteOffset, length);
    batch.forEach((index, nValid, nInvalid, at) => {
      if (at + nValid * HPTE_BYTES > length) throw miscounted(index, nValid, length - at);
      this.#apply(index, nValid, nInvalid, view, at, batch.offset);
    });
  }

  /** Applies a block whose entries are in `view` at `at`. */
  #apply(
    index: number,
    nValid: number,
    nInvalid: number,
    view: DataView,
    at: number,
    offset: number | undefined,
  ): void {
    if (index + nValid + nInvalid > this.slots) {
      throw new FormatError('E_BLOCK_RANGE', 'a block reaches beyond the table', {
        offset,
        expected: `at most ${this.slots} slots`,
        actual: `index ${index}, ${nValid} valid and ${nInvalid} invalid`,
      });
    }
    if (nValid > 0) this.#set(index, nValid, view, at);
    if (nInvalid > 0) this.#clear(index + nValid, nInvalid);
  }

  /** @internal Slots of one page: a power of two, whole PTEGs, at most half a table. */
  get pageSlots(): number {
    return PAGE_SLOTS;
  }

  /** @internal The numbers of the pages that have entries, in no order. */
  pageNumbers(): Float64Array {
    return Float64Array.from(this.#pages.keys());
  }

  /** @internal One page: slots from `number * pageSlots` on. */
  page(number: number): TablePage | undefined {
    return this.#pages.get(number);
  }

  /** @internal Sets one page; it has entries. */
  setPage(number: number, page: TablePage): void {
    this.#memory.take(page.memory - (this.#pages.get(number)?.memory ?? 0));
    this.#pages.set(number, page);
    this.#top = Math.max(this.#top, number);
    this.#page = undefined;
    this.#number = -1;
  }

  #set(index: number, n: number, view: DataView, at: number): void {
    for (let i = 0; i < n; ) {
      const number = Math.floor((index + i) / PAGE_SLOTS);
      const slot = index + i - number * PAGE_SLOTS;
      const step = Math.min(n - i, PAGE_SLOTS - slot);
      const page =
        this.#page !== undefined && number === this.#number ? this.#page : this.#open(number);
      const before = page.memory;
      page.set(slot, step, view, at + i * HPTE_BYTES);
      if (page.memory !== before && page !== this.#fresh) this.#memory.take(page.memory - before);
      // An all-zero entry is an empty slot, whatever the block calls it.
      if (page.empty) this.#remove(number, page);
      i += step;
    }
  }

  #clear(index: number, n: number): void {
    const end = Math.min(index + n, (this.#top + 1) * PAGE_SLOTS);
    for (let at = index; at < end; ) {
      const number = Math.floor(at / PAGE_SLOTS);
      const slot = at - number * PAGE_SLOTS;
      const step = Math.min(end - at, PAGE_SLOTS - slot);
      const page = number === this.#number ? this.#page : this.#pages.get(number);
      if (page !== undefined) {
        if (step < PAGE_SLOTS) page.clear(slot, step);
        if (step === PAGE_SLOTS || page.empty) this.#remove(number, page);
      }
      at += step;
    }
  }

  /** The page of that number, made unless it is there. */
  #open(number: number): TablePage {
    let page = this.#pages.get(number);
    if (page === undefined) {
      if (this.#fresh !== undefined) {
        this.#fresh.fit();
        this.#memory.take(this.#fresh.memory);
      }
      this.#room ??= TablePage.room(PAGE_SLOTS);
      page = new TablePage(this.#room);
      this.#fresh = page;
      this.#pages.set(number, page);
      this.#top = Math.max(this.#top, number);
    }
    this.#page = page;
    this.#number = number;
    return page;
  }

  #remove(number: number, page: TablePage): void {
    this.#pages.delete(number);
    if (page === this.#fresh) this.#fresh = undefined;
    else this.#memory.give(page.memory);
    if (number === this.#number) this.#page = undefined;
  }

  /** The entry in a slot, or undefined when it is empty. @throws RangeError beyond the table */
  get(index: number): Hpte | undefined {
    if (!Number.isInteger(index) || index < 0 || index >= this.slots) {
      throw new RangeError(`slot ${index} is not in a table of ${this.slots}`);
    }
    const page = this.#pages.get(Math.floor(index / PAGE_SLOTS));
    const slot = index % PAGE_SLOTS;
    const i = page?.find(slot) ?? 0;
    if (page === undefined || i >= page.count || page.slotAt(i) !== slot) return undefined;
    return hpteAt(index, page.entries, i * HPTE_BYTES);
  }

  /** The valid entries (V set) in ascending order of slots. */
  *entries(): Generator<Hpte> {
    for (const [index, bytes, at] of this.#stored()) {
      if ((bytes[at + FLAGS_BYTE] ?? 0) & FLAG_VALID) yield hpteAt(index, bytes, at);
    }
  }

  /** Everything stored, in ascending order: slot, and where its 16 bytes are. */
  *#stored(): Generator<readonly [number, Uint8Array, number]> {
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const page = this.#pages.get(number);
      if (page === undefined) continue;
      const bytes = page.entries;
      for (let i = 0; i < page.count; i++) {
        yield [number * PAGE_SLOTS + page.slotAt(i), bytes, i * HPTE_BYTES];
      }
    }
  }

  counts(): HptCounts {
    let valid = 0;
    let bolted = 0;
    let large = 0;
    let notValid = 0;
    for (const page of this.#pages.values()) {
      const bytes = page.entries;
      for (let at = FLAGS_BYTE; at < bytes.length; at += HPTE_BYTES) {
        const flags = bytes[at] ?? 0;
        if (flags & FLAG_VALID) {
          valid++;
          if (flags & FLAG_BOLTED) bolted++;
          if (flags & FLAG_LARGE) large++;
        } else {
          notValid++;
        }
      }
    }
    return { valid, bolted, large, notValid };
  }

  /**
   * Whether two tables are the same, slot for slot.
   * @param options.ignoreSoftwareBits leave out the bits that belong to the hypervisor (0x60 of
   *   DW0, 2^62 of DW1), which differ between KVM and TCG for the same guest. Default false.
   */
  equals(other: HashPageTable, options: { ignoreSoftwareBits?: boolean } = {}): boolean {
    if (this.order !== other.order || this.#pages.size !== other.#pages.size) return false;
    for (const [number, page] of this.#pages) {
      const match = other.#pages.get(number);
      if (match === undefined || match.count !== page.count) return false;
      for (let i = 0; i < page.count; i++) if (page.slotAt(i) !== match.slotAt(i)) return false;
      if (!sameEntries(page.entries, match.entries, options.ignoreSoftwareBits ?? false)) {
        return false;
      }
    }
    return true;
  }

  /**
   * What is stored, bit for bit, as one part of blocks without gaps counted: no framing of the same
   * table is smaller.
   * @param options.boltedOnly only the valid entries with the bolted bit. Default false: everything
   */
  async *items(options: { boltedOnly?: boolean } = {}): AsyncGenerator<HtabItem> {
    yield* this.#blocks('qemu', false, options.boltedOnly ?? false);
  }

  /**
   * The table in canonical form: one part, ascending, the hypervisor's bits cleared, entries
   * without V left out, runs cut only where the format forces it.
   * @param framing whether gaps are counted. `kernel` covers every slot that a 32-bit index can
   *   reach.
   */
  async *canonical(
    framing: CanonicalFraming,
    options: { boltedOnly?: boolean } = {},
  ): AsyncGenerator<HtabItem> {
    yield* this.#blocks(framing, true, options.boltedOnly ?? false);
  }

  *#blocks(framing: CanonicalFraming, clean: boolean, bolted: boolean): Generator<HtabItem> {
    yield { type: 'order', order: this.order, offset: 0 };
    yield { type: 'part', offset: 4 };
    const runs = new RunBuilder();
    const wanted = bolted ? FLAG_VALID | FLAG_BOLTED : clean ? FLAG_VALID : 0;
    const scratch = new Uint8Array(HPTE_BYTES);
    let next = 0;
    for (const [index, bytes, at] of this.#stored()) {
      if (((bytes[at + FLAGS_BYTE] ?? 0) & wanted) !== wanted) continue;
      if (framing === 'kernel' && index > next) runs.invalid(next, index - next);
      scratch.set(bytes.subarray(at, at + HPTE_BYTES));
      if (clean) clearSoftwareBits(scratch, 0);
      runs.valid(index, scratch, 0);
      next = index + 1;
      const batch = runs.full ? runs.take() : undefined;
      if (batch !== undefined) yield { type: 'blocks', batch };
    }
    const end = Math.min(this.slots, 2 ** 32);
    if (framing === 'kernel' && end > next) runs.invalid(next, end - next);
    runs.close();
    const batch = runs.take();
    if (batch !== undefined) yield { type: 'blocks', batch };
    yield { type: 'end', offset: 0 };
  }
}

/** Builds a table from items that come one by one; see {@link HashPageTable.from}. */
export class TableBuilder {
  #table: HashPageTable | undefined;
  #radix = false;
  readonly #limits: Limits;

  /** @param limits of them, `tableBytes` counts here. Default: DEFAULT_LIMITS */
  constructor(order?: number, limits?: LimitOptions) {
    this.#limits = limitsOf(limits);
    if (order !== undefined) this.#table = new HashPageTable(order, this.#limits);
  }

  /** @throws UsageError `E_ORDER_REQUIRED`, FormatError `E_BLOCK_RANGE`, LimitError */
  add(item: HtabItem): void {
    if (item.type === 'order') {
      this.#table = new HashPageTable(item.order, this.#limits);
      this.#radix = false;
    } else if (item.type === 'no-hpt') {
      this.#radix = true;
    } else if (item.type === 'blocks') {
      if (this.#table === undefined) throw orderRequired();
      this.#table.apply(item.batch);
    }
  }

  /** @throws UnsupportedError `E_NO_HPT`; UsageError `E_ORDER_REQUIRED` */
  finish(): HashPageTable {
    if (this.#radix) throw noHpt();
    if (this.#table === undefined) throw orderRequired();
    return this.#table;
  }
}

function hpteAt(index: number, bytes: Uint8Array, at: number): Hpte {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, HPTE_BYTES);
  return { index, dw0: view.getBigUint64(0), dw1: view.getBigUint64(8) };
}

function sameEntries(a: Uint8Array, b: Uint8Array, ignoreSoftwareBits: boolean): boolean {
  if (!ignoreSoftwareBits) return Buffer.compare(a, b) === 0;
  const left = Uint8Array.from(a);
  const right = Uint8Array.from(b);
  for (let at = 0; at < left.length; at += HPTE_BYTES) {
    clearSoftwareBits(left, at);
    clearSoftwareBits(right, at);
  }
  return Buffer.compare(left, right) === 0;
}

function miscounted(index: number, nValid: number, bytes: number): RangeError {
  return new RangeError(`block ${index}: ${nValid} entries in ${bytes} bytes`);
}
