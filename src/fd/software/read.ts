import { type ByteOrder, HEADER_BYTES, MAX_RUN } from '../../htab/block.js';
import { HPTE_BYTES } from '../../htab/order.js';
import { copyEntry, type KernelHpt, recordSlot, reportsEntry } from './hpt.js';
import { Output } from './output.js';
import type { Work } from './turns.js';

/** What a descriptor for reading keeps from one read to the next: struct kvm_htab_ctx. */
export interface ReadContext {
  readonly boltedOnly: boolean;
  readonly byteOrder: ByteOrder;
  /** Slot at which the next read begins; above 2^53 it may be rounded, which no table reaches. */
  index: number;
  firstPass: boolean;
}

/** Entries, empty slots of which there is something to say, and blocks in one piece. */
const PIECE = 1 << 11;

/**
 * kvm_htab_read with record_hpte (arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1).
 *
 * - A block begins only where a header, an entry and one byte more are left of `count`, and an
 *   entry is added only where a byte more than it is left: an exact fit is not used.
 * - In the first pass every slot is reported, later the dirty ones. Either way the mark of a slot
 *   that is reported goes, for all readers. In a later pass clean slots end a run.
 * - At the end of the table the read ends, the cursor goes to 0 and the first pass is over: also
 *   where there was nothing to report because the cursor stood beyond the table, or there is none.
 * - The header's index has 32 bits; that of a larger table loses the upper ones.
 *
 * @param count bytes asked for
 * @param mapped bytes of the caller's buffer that exist
 * @returns undefined for EFAULT: the slots taken until then lost their marks, the cursor stays
 */
export function* readHtab(
  hpt: KernelHpt,
  context: ReadContext,
  count: number,
  mapped: number,
): Work<Uint8Array | undefined> {
  const { boltedOnly, firstPass } = context;
  const { table, slots } = hpt;
  const out = new Output(Math.min(count, mapped), context.byteOrder === 'little');
  let i = context.index;
  const cursor = table !== undefined && i < slots ? table.from(i) : undefined;
  let nb = 0;
  let done = 0;
  while (nb + HEADER_BYTES + HPTE_BYTES < count) {
    const header = nb;
    nb += HEADER_BYTES;
    if (!firstPass && cursor !== undefined) {
      while (!cursor.toDirty()) yield;
      i = cursor.slot;
    }
    const index = i;
    let nValid = 0;
    let nInvalid = 0;
    if (cursor !== undefined) {
      while (
        i === cursor.slot &&
        i < slots &&
        nValid < MAX_RUN &&
        nb + HPTE_BYTES < count &&
        (firstPass || cursor.state !== 0) &&
        reportsEntry(cursor, boltedOnly)
      ) {
        recordSlot(cursor);
        if (nb + HPTE_BYTES > out.limit) return undefined;
        if (nb + HPTE_BYTES > out.bytes.length) yield* out.grow();
        copyEntry(cursor, out.bytes, nb);
        nb += HPTE_BYTES;
        nValid++;
        i++;
        cursor.next();
        if (++done % PIECE === 0) yield;
      }
      while (i < slots && nInvalid < MAX_RUN) {
        if (i < cursor.slot) {
          // Slots without an item: empty and clean.
          if (!firstPass) break;
          const n = Math.min(cursor.slot - i, MAX_RUN - nInvalid);
          nInvalid += n;
          i += n;
        } else {
          if (reportsEntry(cursor, boltedOnly) || !(firstPass || cursor.state !== 0)) break;
          recordSlot(cursor);
          nInvalid++;
          i++;
          cursor.next();
          if (++done % PIECE === 0) yield;
        }
      }
    }
    if (nValid > 0 || nInvalid > 0) {
      if (header + HEADER_BYTES > out.limit) return undefined;
      if (header + HEADER_BYTES > out.bytes.length) yield* out.grow();
      out.header(header, index, nValid, nInvalid);
    } else {
      nb = header;
    }
    if (i >= slots) {
      i = 0;
      context.firstPass = false;
      break;
    }
    if (++done % PIECE === 0) yield;
  }
  context.index = i;
  return yield* out.take(nb);
}
