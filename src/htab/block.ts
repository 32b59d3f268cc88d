import { HPTE_BYTES } from './order.js';

/** Bytes of a block header: u32 index, u16 n_valid, u16 n_invalid. */
export const HEADER_BYTES = 8;
/** Most entries of either kind that a block can count (u16). */
export const MAX_RUN = 0xffff;
/** Bytes of the largest block. */
export const MAX_BLOCK_BYTES = HEADER_BYTES + MAX_RUN * HPTE_BYTES;

/** Byte order of block headers. Entries are big-endian in either. */
export type ByteOrder = 'little' | 'big';

/**
 * A run of the table: `nValid` entries from `index` on, then `nInvalid` slots that are empty.
 * (`struct kvm_get_htab_header`, include/uapi/linux/kvm.h; a chunk of `spapr/htab` is the same.)
 */
export interface HtabBlock {
  /** Slot number of the first entry, u32. */
  readonly index: number;
  /** How many entries follow, u16. */
  readonly nValid: number;
  /** How many slots after them are empty, u16. */
  readonly nInvalid: number;
  /** `16 * nValid` bytes of big-endian HPTEs. A view: copy it to keep it. */
  readonly entries: Uint8Array;
}

/**
 * Whole blocks, one after another, as they stand in a file: the unit in which blocks travel, so
 * that no object is made for each.
 *
 * `bytes` is a view into a buffer that is reused: it is valid until the next batch is asked for.
 */
export class BlockBatch implements Iterable<HtabBlock> {
  constructor(
    readonly bytes: Uint8Array,
    readonly byteOrder: ByteOrder,
    /** Number of blocks in `bytes`. */
    readonly count: number,
    /** Byte offset in the source of the first header; of the producer's output if it was made. */
    readonly offset: number,
  ) {}

  /** Calls `visit` for each block; `at` is where its entries begin in `bytes`. */
  forEach(visit: (index: number, nValid: number, nInvalid: number, at: number) => void): void {
    const { bytes } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const little = this.byteOrder === 'little';
    for (let at = 0; at < bytes.length; ) {
      const nValid = view.getUint16(at + 4, little);
      visit(view.getUint32(at, little), nValid, view.getUint16(at + 6, little), at + HEADER_BYTES);
      at += HEADER_BYTES + nValid * HPTE_BYTES;
    }
  }

  /** @internal The same blocks in batches of about that many bytes, for work that must not take long at once. */
  *pieces(bytes: number): Generator<BlockBatch> {
    const all = this.bytes;
    const { byteOrder, offset } = this;
    const view = new DataView(all.buffer, all.byteOffset, all.length);
    const little = byteOrder === 'little';
    for (let from = 0; from < all.length; ) {
      let at = from;
      let count = 0;
      for (; at < all.length && at - from < bytes; count++) {
        at += HEADER_BYTES + view.getUint16(at + 4, little) * HPTE_BYTES;
      }
      yield new BlockBatch(all.subarray(from, at), byteOrder, count, offset + from);
      from = at;
    }
  }

  *[Symbol.iterator](): Iterator<HtabBlock> {
    const { bytes } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const little = this.byteOrder === 'little';
    for (let at = 0; at < bytes.length; ) {
      const nValid = view.getUint16(at + 4, little);
      const next = at + HEADER_BYTES + nValid * HPTE_BYTES;
      yield {
        index: view.getUint32(at, little),
        nValid,
        nInvalid: view.getUint16(at + 6, little),
        entries: bytes.subarray(at + HEADER_BYTES, next),
      };
      at = next;
    }
  }

  /**
   * The same blocks with headers of that byte order: `bytes` itself, or a converted copy.
   * @param into memory for the copy, where it is large enough. Default: new memory.
   */
  encode(byteOrder: ByteOrder, into?: Uint8Array): Uint8Array {
    const { bytes } = this;
    if (byteOrder === this.byteOrder) return bytes;
    const fits = into !== undefined && into.length >= bytes.length;
    const out = fits ? into.subarray(0, bytes.length) : new Uint8Array(bytes.length);
    out.set(bytes);
    const view = new DataView(out.buffer, out.byteOffset, out.length);
    const little = byteOrder === 'little';
    for (let at = 0; at < out.length; ) {
      const nValid = view.getUint16(at + 4, !little);
      view.setUint32(at, view.getUint32(at, !little), little);
      view.setUint16(at + 4, nValid, little);
      view.setUint16(at + 6, view.getUint16(at + 6, !little), little);
      at += HEADER_BYTES + nValid * HPTE_BYTES;
    }
    return out;
  }
}

/** Memory for batches on their way out, one after another. */
export class BatchBuffer {
  #memory: Uint8Array | undefined;

  /** Like `batch.encode`: what it gives is valid until the next call, or as long as the batch is. */
  encode(batch: BlockBatch, byteOrder: ByteOrder): Uint8Array {
    if (byteOrder === batch.byteOrder) return batch.bytes;
    const { length } = batch.bytes;
    if ((this.#memory?.length ?? 0) < length) this.#memory = new Uint8Array(length * 2);
    return batch.encode(byteOrder, this.#memory);
  }
}

/** Encodes one block. @throws RangeError for counts or an index that no header can hold. */
export function encodeBlock(
  block: { index: number; nInvalid: number; entries: Uint8Array },
  byteOrder: ByteOrder,
): Uint8Array {
  const nValid = block.entries.length / HPTE_BYTES;
  const fits = (n: number, max: number): boolean => Number.isInteger(n) && n >= 0 && n <= max;
  if (!fits(block.index, 0xffffffff)) throw new RangeError(`index ${block.index} is not a u32`);
  if (!fits(nValid, MAX_RUN)) throw new RangeError(`${nValid} entries do not fit a block`);
  if (!fits(block.nInvalid, MAX_RUN)) throw new RangeError(`nInvalid ${block.nInvalid} is no u16`);
  const out = new Uint8Array(HEADER_BYTES + block.entries.length);
  const view = new DataView(out.buffer);
  const little = byteOrder === 'little';
  view.setUint32(0, block.index, little);
  view.setUint16(4, nValid, little);
  view.setUint16(6, block.nInvalid, little);
  out.set(block.entries, HEADER_BYTES);
  return out;
}
