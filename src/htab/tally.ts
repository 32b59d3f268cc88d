import { HEADER_BYTES } from './block.js';
import type { HtabItem, HtabItems } from './items.js';
import { HPTE_BYTES } from './order.js';

/** Counts items that pass by: what was carried, repetitions included. */
export class Tally {
  order: number | undefined;
  radix = false;
  parts = 0;
  blocks = 0;
  /** Entries that blocks carry. */
  valid = 0;
  /** Bytes that they became, kept by who writes them. */
  bytes = 0;

  async *count(items: HtabItems): AsyncGenerator<HtabItem> {
    for await (const item of items) {
      if (item.type === 'order') this.order = item.order;
      else if (item.type === 'no-hpt') this.radix = true;
      else if (item.type === 'part') this.parts++;
      else if (item.type === 'blocks') {
        const { count, bytes } = item.batch;
        this.blocks += count;
        this.valid += (bytes.length - HEADER_BYTES * count) / HPTE_BYTES;
      }
      yield item;
    }
  }
}
