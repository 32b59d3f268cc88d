import type { HtabBlock } from '../../htab/block.js';
import { HPTE_BYTES } from '../../htab/order.js';
import { HashPageTable } from '../../htab/table.js';
import { copyEntry, type KernelHpt } from './hpt.js';
import { VALID } from './page.js';
import type { Work } from './turns.js';
import { type WriteOptions, writeEntry } from './write.js';

const PIECE = 1 << 10;

/** The entries as a first pass would give them, without taking a mark. Undefined without an HPT. */
export function* snapshotTable(hpt: KernelHpt): Work<HashPageTable | undefined> {
  if (hpt.table === undefined) return undefined;
  const table = new HashPageTable(hpt.table.order);
  const cursor = hpt.table.from(0);
  let blocks: HtabBlock[] = [];
  for (; cursor.slot < hpt.slots; cursor.next()) {
    if (!cursor.occupied) continue;
    const entries = new Uint8Array(HPTE_BYTES);
    copyEntry(cursor, entries, 0);
    blocks.push({ index: cursor.slot, nValid: 1, nInvalid: 0, entries });
    if (blocks.length === PIECE) {
      table.apply(blocks);
      blocks = [];
      yield;
    }
  }
  table.apply(blocks);
  return table;
}

/** Puts all valid entries of a table into the HPT, as writes to the fd would. */
export function* loadTable(
  hpt: KernelHpt,
  table: HashPageTable,
  options: Pick<WriteOptions, 'onVrma'>,
): Work<void> {
  let done = 0;
  for (const number of table.pageNumbers().sort()) {
    const page = table.page(number);
    if (page === undefined) continue;
    const first = number * table.pageSlots;
    const { entries } = page;
    for (let i = 0; i < page.count; i++) {
      const at = i * HPTE_BYTES;
      const valid = ((entries[at + 7] ?? 0) & VALID) !== 0;
      if (valid) writeEntry(hpt, first + page.slotAt(i), entries, at, options);
      if (++done % PIECE === 0) yield;
    }
  }
}
