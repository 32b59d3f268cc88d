import { FormatError } from '../errors.js';
import { BlockBatch, type ByteOrder, HEADER_BYTES } from '../htab/block.js';
import { HPTE_BYTES } from '../htab/order.js';

/** What a pass gave so far. */
export interface PassCounts {
  readonly blocks: number;
  /** Entries that came. */
  readonly valid: number;
  /** Slots that were reported as empty: never used, or emptied since. */
  readonly invalid: number;
  readonly bytes: number;
}

/** What a read gave, and which slots its blocks are about. */
export interface ReadBlocks extends PassCounts {
  readonly batch: BlockBatch;
  /** Slot of the first block. */
  readonly first: number;
  /** The slot after the last block. */
  readonly end: number;
}

/**
 * Takes bytes for whole blocks.
 * @param what they are, for the error
 * @throws FormatError `E_TRUNCATED` when they end within a block
 */
export function blocksOf(
  bytes: Uint8Array,
  byteOrder: ByteOrder,
  offset: number,
  what = 'what the fd gave: it is no HTAB fd',
): ReadBlocks {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const little = byteOrder === 'little';
  let blocks = 0;
  let valid = 0;
  let invalid = 0;
  let first = 0;
  let end = 0;
  for (let at = 0; at < bytes.length; blocks++) {
    const left = bytes.length - at;
    const nValid = left < HEADER_BYTES ? 0 : view.getUint16(at + 4, little);
    if (left < HEADER_BYTES + nValid * HPTE_BYTES) {
      throw new FormatError('E_TRUNCATED', `a part of a block is at the end of ${what}`, {
        offset: offset + at,
        expected: `${HEADER_BYTES + nValid * HPTE_BYTES} bytes`,
        actual: String(left),
      });
    }
    const index = view.getUint32(at, little);
    const nInvalid = view.getUint16(at + 6, little);
    if (blocks === 0) first = index;
    end = index + nValid + nInvalid;
    valid += nValid;
    invalid += nInvalid;
    at += HEADER_BYTES + nValid * HPTE_BYTES;
  }
  const batch = new BlockBatch(bytes, byteOrder, blocks, offset);
  return { batch, blocks, valid, invalid, bytes: bytes.length, first, end };
}

/**
 * One pass over the table: iterate it once for its blocks. What it counted is known as far as it
 * was read.
 */
export class HtabPass implements AsyncIterable<BlockBatch>, PassCounts {
  blocks = 0;
  valid = 0;
  invalid = 0;
  bytes = 0;
  readonly #read: (pass: HtabPass) => AsyncGenerator<BlockBatch>;

  /** @internal */
  constructor(
    /** 0 is the first pass, which gives the whole table. */
    readonly number: number,
    read: (pass: HtabPass) => AsyncGenerator<BlockBatch>,
  ) {
    this.#read = read;
  }

  /** Whether anything came: of a later pass, whether something changed since the one before. */
  get changed(): boolean {
    return this.blocks > 0;
  }

  /** @internal */
  count(read: PassCounts): void {
    this.blocks += read.blocks;
    this.valid += read.valid;
    this.invalid += read.invalid;
    this.bytes += read.bytes;
  }

  [Symbol.asyncIterator](): AsyncGenerator<BlockBatch> {
    return this.#read(this);
  }
}
