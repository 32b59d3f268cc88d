import type { BlockBatch } from './block.js';

/**
 * An HPT on its way from one format to another: what a `spapr/htab` section says, in its order.
 *
 * A stream begins with `order` or `no-hpt`; `part` and `end` stand around the blocks of one PART
 * or END payload. The kernel's framing knows neither: its blocks are one part, and the order comes
 * from elsewhere. Offsets are byte positions in the source.
 */
export type HtabItem =
  /** The table is (re)created empty, with 2^order bytes: the START payload. */
  | { readonly type: 'order'; readonly order: number; readonly offset: number }
  /** The guest has no HPT (radix): -1, in START, PART and END alike (QEMU 2.10 and later). */
  | { readonly type: 'no-hpt'; readonly offset: number }
  | { readonly type: 'part'; readonly offset: number }
  | { readonly type: 'blocks'; readonly batch: BlockBatch }
  | { readonly type: 'end'; readonly offset: number };

export type HtabItems = AsyncIterable<HtabItem>;
