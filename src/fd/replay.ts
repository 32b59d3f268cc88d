import { IoError } from '../errors.js';
import { type ByteOrder, HEADER_BYTES, type HtabBlock } from '../htab/block.js';
import type { HtabItem, HtabItems } from '../htab/items.js';
import { HPTE_BYTES } from '../htab/order.js';
import { type BlocksWritten, type HtabDescriptor, htabFdError } from './descriptor.js';
import { HtabFd } from './htab-fd.js';

/**
 * A recording as an HTAB fd that is read: each part of the items is a pass, block for block as it
 * was recorded. A block that does not fit a read is cut as the kernel would have cut it. When the
 * recording is over, nothing changes any more.
 *
 * @param items of a kernel dump, an archive or a section (`(await openHpt(file)).items()`); they are
 *   read as the passes are, and given up by `close`
 * @param byteOrder of the block headers that are given. Default `little`
 */
export function replayHtabFd(items: HtabItems, byteOrder: ByteOrder = 'little'): HtabFd {
  return new HtabFd(new ReplayDescriptor(items, byteOrder), false);
}

/** What is left of a block of the recording. */
interface Rest {
  index: number;
  /** Entries that were not given yet, and where in `entries` they begin. */
  nValid: number;
  at: number;
  nInvalid: number;
  readonly entries: Uint8Array;
}

class ReplayDescriptor implements HtabDescriptor {
  readonly backend = 'replay';
  readonly #items: AsyncIterator<HtabItem>;
  #blocks: Iterator<HtabBlock> | undefined;
  #rest: Rest | undefined;
  /** A part ended behind what the last read gave: the next one says so, by giving nothing. */
  #partEnded = false;
  #closed = false;
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    items: HtabItems,
    readonly byteOrder: ByteOrder,
  ) {
    this.#items = items[Symbol.asyncIterator]();
  }

  read(length: number): Promise<Uint8Array> {
    const result = this.#last.then(() => this.#read(length));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #read(length: number): Promise<Uint8Array> {
    if (this.#closed) throw new IoError('E_IO', 'the HTAB fd is closed', { actual: 'EBADF' });
    if (this.#partEnded) {
      this.#partEnded = false;
      return new Uint8Array();
    }
    const pieces: Uint8Array[] = [];
    let used = 0;
    // The kernel's fit is strict: a byte more than a header and an entry.
    while (used + HEADER_BYTES + HPTE_BYTES < length) {
      const rest = this.#rest ?? (await this.#next());
      if (rest === undefined) {
        this.#partEnded = used > 0;
        break;
      }
      const room = Math.floor((length - used - HEADER_BYTES - 1) / HPTE_BYTES);
      const piece = this.#take(rest, room);
      pieces.push(piece);
      used += piece.length;
    }
    return Buffer.concat(pieces);
  }

  /** As much of a block as there is room for. */
  #take(rest: Rest, room: number): Uint8Array {
    const nValid = Math.min(rest.nValid, room);
    const nInvalid = nValid === rest.nValid ? rest.nInvalid : 0;
    const piece = new Uint8Array(HEADER_BYTES + nValid * HPTE_BYTES);
    const view = new DataView(piece.buffer);
    const little = this.byteOrder === 'little';
    view.setUint32(0, rest.index, little);
    view.setUint16(4, nValid, little);
    view.setUint16(6, nInvalid, little);
    piece.set(rest.entries.subarray(rest.at, rest.at + nValid * HPTE_BYTES), HEADER_BYTES);
    const done = nValid === rest.nValid;
    this.#rest = done
      ? undefined
      : {
          ...rest,
          index: rest.index + nValid,
          nValid: rest.nValid - nValid,
          at: rest.at + nValid * HPTE_BYTES,
        };
    return piece;
  }

  /** The next block; undefined at the end of a part, and when there is no more. */
  async #next(): Promise<Rest | undefined> {
    for (;;) {
      const block = this.#blocks?.next();
      if (block !== undefined && block.done !== true) {
        const { index, nValid, nInvalid, entries } = block.value;
        return { index, nValid, nInvalid, entries, at: 0 };
      }
      this.#blocks = undefined;
      const item = await this.#items.next();
      if (item.done) return undefined;
      if (item.value.type === 'blocks') this.#blocks = item.value.batch[Symbol.iterator]();
      else if (item.value.type === 'end') return undefined;
    }
  }

  write(): Promise<number> {
    return Promise.reject(htabFdError('write the HTAB fd', 'EBADF', 'it is a recording'));
  }

  writeBlocks(): Promise<BlocksWritten> {
    return Promise.resolve({ blocks: 0, bytes: 0, errno: 'EBADF' });
  }

  async close(): Promise<void> {
    if (this.#closed) return this.#last.then(() => undefined);
    this.#closed = true;
    this.#last = this.#last.then(() => this.#items.return?.());
    await this.#last;
  }
}
