import { FLAG_BOLTED, FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import type { HtabItem, HtabItems } from './items.js';
import { HPTE_BYTES } from './order.js';
import { RunBuilder } from './runs.js';

/** The kernel looks at V first: what is sent without it, bolted or not, is no entry. */
const KEPT = FLAG_VALID | FLAG_BOLTED;

/**
 * Keeps the bolted entries, as a read with KVM_GET_HTAB_BOLTED_ONLY gives them: every other entry
 * counts as an empty slot, and runs are cut by the kernel's rules, within each part.
 *
 * Note what that means to a reader who applies the result to a table with entries in it: the others
 * are deleted.
 */
export async function* boltedOnly(items: HtabItems): AsyncGenerator<HtabItem> {
  const runs = new RunBuilder();
  for await (const item of items) {
    if (item.type === 'blocks') {
      const { bytes } = item.batch;
      // Blocks come one by one: a batch may hold more of them than the builder's buffer takes.
      for (const block of item.batch) {
        const from = block.entries.byteOffset - bytes.byteOffset;
        for (let i = 0; i < block.nValid; i++) {
          const at = from + i * HPTE_BYTES;
          const flags = (bytes[at + FLAGS_BYTE] ?? 0) & KEPT;
          if (flags === KEPT) runs.valid(block.index + i, bytes, at);
          else runs.invalid(block.index + i, 1);
        }
        runs.invalid(block.index + block.nValid, block.nInvalid);
        const batch = runs.full ? runs.take() : undefined;
        if (batch !== undefined) yield { type: 'blocks', batch };
      }
    } else {
      runs.close();
      const batch = runs.take();
      if (batch !== undefined) yield { type: 'blocks', batch };
      yield item;
    }
  }
}
