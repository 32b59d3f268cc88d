import { type LimitOptions, type Limits, limitsOf } from '../limits.js';
import type { BlockBatch } from './block.js';
import { FLAG_BOLTED, FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import type { HtabItem } from './items.js';
import { BOLTED, EMPTY, SlotMarks, VALID } from './marks.js';
import { HPTE_BYTES } from './order.js';

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

/** Counts what a table will hold without holding it; see {@link SlotMarks}. */
export class Census {
  #marks: SlotMarks;
  readonly #limits: Limits;
  #order: number | undefined;
  #radix = false;
  #parts = 0;
  #blocks = 0;
  #passes = 0;
  #last = -1;
  #carried = 0;
  #notValid = 0;
  #reach = 0;

  /** @param limits of them, `tableBytes` counts here. Default: DEFAULT_LIMITS */
  constructor(limits?: LimitOptions) {
    this.#limits = limitsOf(limits);
    this.#marks = new SlotMarks(this.#limits);
  }

  /** @throws LimitError */
  add(item: HtabItem): void {
    switch (item.type) {
      case 'order':
        this.#marks = new SlotMarks(this.#limits);
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
        const state = flags & FLAG_VALID ? (flags & FLAG_BOLTED ? BOLTED : VALID) : EMPTY;
        this.#marks.mark(index + i, state);
      }
      this.#marks.clear(index + nValid, nInvalid);
    });
  }

  summary(): HtabSummary {
    return {
      order: this.#radix ? undefined : this.#order,
      radix: this.#radix,
      parts: this.#parts,
      blocks: this.#blocks,
      passes: this.#passes,
      carried: this.#carried,
      valid: this.#marks.valid,
      bolted: this.#marks.bolted,
      notValid: this.#notValid,
      reach: this.#reach,
    };
  }
}
