import type { BlockBatch } from './block.js';
import { FLAG_BOLTED, FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import type { HtabItem } from './items.js';
import { HPTE_BYTES } from './order.js';

// Small enough that one entry a page, in a hostile file, does not cost much; large enough for a full table.
const PAGE_SLOTS = 2048;

/** What a stream of items amounts to. Counts are of blocks, parts and slots. */
export interface HtabSummary {
  /** log2 of the table's size in bytes; undefined when the input does not tell, or for radix. */
  readonly order: number | undefined;
  /** The guest has no HPT (radix). */
  readonly radix: boolean;
  /** PART and END payloads. */
  readonly parts: number;
  readonly blocks: number;
  /** How often the index went back, plus one: a first pass and the later ones. 0 without blocks. */
  readonly passes: number;
  /** Entries that the blocks carry, repetitions included. */
  readonly carried: number;
  /** Valid entries of the table that results, the last writer winning. */
  readonly valid: number;
  /** Valid entries that are bolted. */
  readonly bolted: number;
  /** Carried entries without V, which KVM refuses (EINVAL). */
  readonly notValid: number;
  /** One past the highest slot that a block covers. */
  readonly reach: number;
}

/** A stretch of slots. */
interface CensusPage {
  /** Bit 0: valid, bit 1: bolted; four slots a byte. */
  readonly bits: Uint8Array;
  /** How many slots are not empty. */
  used: number;
}

/**
 * Counts what a table will hold without holding it: two bits a slot, in pages that exist only
 * where an entry was seen.
 */
export class Census {
  readonly #pages = new Map<number, CensusPage>();
  /** No page has a number above this one. */
  #top = -1;
  /** The page that was marked last: the next entry is mostly in the same. */
  #page: CensusPage | undefined;
  #number = -1;
  #order: number | undefined;
  #radix = false;
  #parts = 0;
  #blocks = 0;
  #passes = 0;
  #last = -1;
  #carried = 0;
  #valid = 0;
  #bolted = 0;
  #notValid = 0;
  #reach = 0;

  add(item: HtabItem): void {
    switch (item.type) {
      case 'order':
        this.#pages.clear();
        this.#top = -1;
        this.#number = -1;
        this.#valid = 0;
        this.#bolted = 0;
        this.#order = item.order;
        this.#radix = false;
        break;
      case 'no-hpt':
        // The first stands for START; QEMU repeats it in every PART and END.
        if (this.#radix) this.#parts++;
        this.#radix = true;
        break;
      case 'part':
        this.#parts++;
        break;
      case 'blocks':
        this.#addBatch(item.batch);
        break;
      case 'end':
        break;
    }
  }

  #addBatch(batch: BlockBatch): void {
    const { bytes } = batch;
    this.#blocks += batch.count;
    batch.forEach((index, nValid, nInvalid, at) => {
      if (index < this.#last || this.#passes === 0) this.#passes++;
      this.#last = index;
      this.#carried += nValid;
      this.#reach = Math.max(this.#reach, index + nValid + nInvalid);
      for (let i = 0; i < nValid; i++) {
        const flags = bytes[at + i * HPTE_BYTES + FLAGS_BYTE] ?? 0;
        if (!(flags & FLAG_VALID)) this.#notValid++;
        this.#mark(index + i, flags & FLAG_VALID ? (flags & FLAG_BOLTED ? 3 : 1) : 0);
      }
      this.#clear(index + nValid, nInvalid);
    });
  }

  #mark(index: number, state: number): void {
    const number = Math.floor(index / PAGE_SLOTS);
    let page = this.#pageOf(number);
    if (page === undefined) {
      if (state === 0) return;
      page = { bits: new Uint8Array(PAGE_SLOTS / 4), used: 0 };
      this.#pages.set(number, page);
      this.#page = page;
      this.#top = Math.max(this.#top, number);
    }
    const at = (index % PAGE_SLOTS) >> 2;
    const shift = (index & 3) * 2;
    const byte = page.bits[at] ?? 0;
    const before = (byte >> shift) & 3;
    if (before === state) return;
    this.#valid += (state & 1) - (before & 1);
    this.#bolted += (state >> 1) - (before >> 1);
    page.bits[at] = byte ^ ((before ^ state) << shift);
    if (before === 0) page.used++;
    else if (state === 0 && --page.used === 0) {
      this.#pages.delete(number);
      this.#page = undefined;
    }
  }

  #pageOf(number: number): CensusPage | undefined {
    if (number !== this.#number) {
      this.#page = this.#pages.get(number);
      this.#number = number;
    }
    return this.#page;
  }

  #clear(index: number, count: number): void {
    const end = Math.min(index + count, (this.#top + 1) * PAGE_SLOTS);
    for (let at = index; at < end; ) {
      const number = Math.floor(at / PAGE_SLOTS);
      const stop = Math.min(end, (number + 1) * PAGE_SLOTS);
      const page = this.#pageOf(number);
      if (page !== undefined) this.#clearIn(page, number * PAGE_SLOTS, at, stop);
      at = stop;
    }
  }

  #clearIn(page: CensusPage, base: number, from: number, to: number): void {
    for (let at = from; at < to && page.used > 0; ) {
      // Four empty slots at once.
      if (at % 4 === 0 && at + 4 <= to && page.bits[(at - base) >> 2] === 0) at += 4;
      else this.#mark(at++, 0);
    }
  }

  summary(): HtabSummary {
    return {
      order: this.#radix ? undefined : this.#order,
      radix: this.#radix,
      parts: this.#parts,
      blocks: this.#blocks,
      passes: this.#passes,
      carried: this.#carried,
      valid: this.#valid,
      bolted: this.#bolted,
      notValid: this.#notValid,
      reach: this.#reach,
    };
  }
}
