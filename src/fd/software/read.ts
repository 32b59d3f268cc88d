import { type ByteOrder, HEADER_BYTES, MAX_RUN } from '../../htab/block.js';
import { HPTE_BYTES } from '../../htab/order.js';
import { copyEntry, type KernelHpt, recordSlot, reportsEntry } from './hpt.js';
import type { Work } from './turns.js';

/** What a descriptor for reading keeps from one read to the next: struct kvm_htab_ctx. */
export interface ReadContext {
  readonly boltedOnly: boolean;
  readonly byteOrder: ByteOrder;
  /** Slot at which the next read begins; above 2^53 it may be rounded, which no table reaches. */
  index: number;
  firstPass: boolean;
}

/** Slots, or blocks, between two pauses. */
const PIECE = 1 << 16;
const FIRST_BYTES = 4096;

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
      cursor.toDirty();
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
        if (!out.room(nb + HPTE_BYTES)) return undefined;
        copyEntry(cursor, out.bytes, nb);
        nb += HPTE_BYTES;
        nValid++;
        i++;
        cursor.next();
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
          done++;
          cursor.next();
        }
      }
    }
    if (nValid > 0 || nInvalid > 0) {
      if (!out.room(header + HEADER_BYTES)) return undefined;
      out.header(header, index, nValid, nInvalid);
    } else {
      nb = header;
    }
    if (i >= slots) {
      i = 0;
      context.firstPass = false;
      break;
    }
    done += nValid + 1;
    if (done >= PIECE) {
      done = 0;
      yield;
    }
  }
  context.index = i;
  return out.take(nb);
}

/** The caller's buffer: it grows with what is put into it, not with what was asked for. */
class Output {
  bytes: Uint8Array;
  #view: DataView;
  readonly #limit: number;
  readonly #little: boolean;

  constructor(limit: number, little: boolean) {
    this.#limit = limit;
    this.#little = little;
    this.bytes = new Uint8Array(Math.min(limit, FIRST_BYTES));
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Whether the caller's buffer has that many bytes. */
  room(length: number): boolean {
    if (length > this.#limit) return false;
    if (length > this.bytes.length) {
      const grown = new Uint8Array(Math.min(this.#limit, Math.max(length, 2 * this.bytes.length)));
      grown.set(this.bytes);
      this.bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return true;
  }

  header(at: number, index: number, nValid: number, nInvalid: number): void {
    this.#view.setUint32(at, index % 2 ** 32, this.#little);
    this.#view.setUint16(at + 4, nValid, this.#little);
    this.#view.setUint16(at + 6, nInvalid, this.#little);
  }

  take(length: number): Uint8Array {
    return length === this.bytes.length ? this.bytes : this.bytes.slice(0, length);
  }
}
