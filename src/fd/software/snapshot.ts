import type { HtabBlock } from '../../htab/block.js';
import { HPTE_BYTES } from '../../htab/order.js';
import { HashPageTable } from '../../htab/table.js';
import { copyEntry, type KernelHpt } from './hpt.js';
import type { Work } from './turns.js';
import { type WriteOptions, writeEntry } from './write.js';

const PIECE = 1 << 14;

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
  const entry = new Uint8Array(HPTE_BYTES);
  const view = new DataView(entry.buffer);
  let done = 0;
  for (const { index, dw0, dw1 } of table.entries()) {
    view.setBigUint64(0, dw0);
    view.setBigUint64(8, dw1);
    writeEntry(hpt, index, entry, 0, options);
    if (++done % PIECE === 0) yield;
  }
}
