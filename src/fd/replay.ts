import { Pace } from '../bytes/pace.js';
import { FormatError, IoError, ioError, UnsupportedError } from '../errors.js';
import { BlockBatch, type ByteOrder, encodeBlock, HEADER_BYTES } from '../htab/block.js';
import type { HtabItem, HtabItems } from '../htab/items.js';
import { HPTE_BYTES } from '../htab/order.js';
import { checkLength } from './arguments.js';
import {
  type BlocksWritten,
  type HtabDescriptor,
  htabFdError,
  MIN_READ_BYTES,
} from './descriptor.js';
import { HtabFd } from './htab-fd.js';

/** Most bytes that one read gives, whatever is asked for. */
const MOST_BYTES = 16 * 1024 * 1024;
/** How many bytes of small blocks are looked through before the event loop may get its turn. */
const STEP_BYTES = 64 * 1024;

/**
 * A recording as an HTAB fd that is read: each part of the items is a pass, block for block as it
 * was recorded. A block that does not fit a read is cut as the kernel would have cut it. When the
 * recording is over, nothing changes any more. When it fails, what came before is given first, and
 * then every read fails.
 *
 * Of a section or an archive, the blocks are replayed and nothing else: an HTAB fd says neither the
 * order of a table nor that there is none, in which case it gives nothing. QEMU's TCG leaves out what
 * is empty, and spreads its first pass over several parts (hw/ppc/spapr.c htab_save_first_pass, 1.6
 * to 10.2), where the kernel's first pass covers every slot. To `capture` them takes `partial`,
 * `order`, and as many `passes` as there are parts.
 *
 * @param items of a kernel dump, an archive or a section (`(await openHpt(file)).items()`); they are
 *   read as the passes are, and given up by `close`, which waits for no item
 * @param byteOrder of the block headers that are given. Default `little`
 */
export function replayHtabFd(items: HtabItems, byteOrder: ByteOrder = 'little'): HtabFd {
  return new HtabFd(new ReplayDescriptor(items, byteOrder), false);
}

class ReplayDescriptor implements HtabDescriptor {
  readonly backend = 'replay';
  readonly passesEndWithNothing = true;
  readonly #items: AsyncIterator<HtabItem>;
  /** What is being given, and where the next block, or the rest of one, begins in it. */
  #batch: BlockBatch;
  #at = 0;
  /** What is left of a block that was cut. Its entries, one at least, begin at `#at`. */
  #rest: { readonly index: number; readonly nValid: number; readonly nInvalid: number } | undefined;
  /** A part ended behind what the last read gave: the next one says so, by giving nothing. */
  #partEnded = false;
  /** A block was read from the recording. */
  #began = false;
  /** The recording has no more items. */
  #over = false;
  /** What every read fails with from now on. */
  #failure: Error | undefined;
  #closed = false;
  /** Ends the wait for an item. */
  #giveUp: ((why: Error) => void) | undefined;
  #last: Promise<void> = Promise.resolve();
  /** One for all reads: each may be short, and there may be many. */
  readonly #pace = new Pace(undefined);

  constructor(
    items: HtabItems,
    readonly byteOrder: ByteOrder,
  ) {
    this.#items = items[Symbol.asyncIterator]();
    this.#batch = new BlockBatch(new Uint8Array(), byteOrder, 0, 0);
  }

  /**
   * At most 16 MiB come, whatever is asked for.
   * @throws SpaprHtabError that the items failed with, IoError `E_IO` for another error of theirs;
   *   UnsupportedError `E_UNSUPPORTED` when another table begins after the blocks of one; IoError
   *   `E_IO` EBADF once closed, or when an item is waited for then; UsageError `E_USAGE`
   */
  async read(length: number): Promise<Uint8Array> {
    const most = Math.min(checkLength(length), MOST_BYTES);
    const result = this.#last.then(() => this.#read(most));
    const settled = (): void => undefined;
    this.#last = result.then(settled, settled);
    return await result;
  }

  async #read(length: number): Promise<Uint8Array> {
    if (this.#failure !== undefined) throw this.#failure;
    if (length < MIN_READ_BYTES) return new Uint8Array();
    if (this.#partEnded) {
      this.#partEnded = false;
      return new Uint8Array();
    }
    const pieces: Uint8Array[] = [];
    let used = 0;
    while (length - used >= MIN_READ_BYTES) {
      try {
        if (this.#pace.due) await this.#pace.pause();
        if (this.#at >= this.#batch.bytes.length && !(await this.#nextBatch())) {
          this.#partEnded = used > 0;
          break;
        }
        const piece = this.#piece(length - used);
        pieces.push(piece);
        used += piece.length;
      } catch (error) {
        const cause = error instanceof Error ? error : new Error(String(error));
        this.#failure ??= ioError(cause, 'read', 'the recording');
        if (used === 0) throw this.#failure;
        // What came before it is given first.
        break;
      }
    }
    return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
  }

  /** Whether there is a batch before the part ends. */
  async #nextBatch(): Promise<boolean> {
    for (;;) {
      if (this.#pace.due) await this.#pace.pause();
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#over) return false;
      const { done, value: item } = await this.#nextItem();
      if (done) {
        this.#over = true;
        return false;
      }
      if (item.type === 'end') return false;
      if (item.type === 'order' || item.type === 'no-hpt') this.#checkTable(item.offset);
      if (item.type !== 'blocks') continue;
      this.#began = true;
      this.#batch = item.batch;
      this.#at = 0;
      if (item.batch.bytes.length > 0) return true;
    }
  }

  /** An HTAB fd says nothing of the table as a whole: what was read of another one would stay. */
  #checkTable(offset: number): void {
    if (!this.#began) return;
    throw new UnsupportedError(
      'E_UNSUPPORTED',
      'the recording goes on with another table, which an HTAB fd cannot say; replay each by itself',
      { offset },
    );
  }

  #nextItem(): Promise<IteratorResult<HtabItem>> {
    return new Promise((resolve, reject) => {
      this.#giveUp = reject;
      this.#items.next().then(resolve, reject);
    });
  }

  /** Whole blocks that fit `room`, or else as much of one as does. A copy. */
  #piece(room: number): Uint8Array {
    if (this.#rest !== undefined) return this.#cut(this.#rest, room);
    const { bytes, byteOrder } = this.#batch;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const little = byteOrder === 'little';
    const from = this.#at;
    const most = Math.min(bytes.length, from + STEP_BYTES);
    let at = from;
    while (at < most) {
      const left = room - (at - from);
      const header = bytes.length - at >= HEADER_BYTES;
      const size = HEADER_BYTES + (header ? view.getUint16(at + 4, little) * HPTE_BYTES : 0);
      if (size > bytes.length - at) {
        // What stands before it is given first.
        if (at > from) break;
        throw new FormatError('E_TRUNCATED', 'the recording gives a part of a block', {
          offset: this.#batch.offset + at,
          expected: `${size} bytes`,
          actual: String(bytes.length - at),
        });
      }
      // The kernel's fit is strict: a byte more than the block.
      if (left < MIN_READ_BYTES || left <= size) break;
      at += size;
    }
    if (at > from) {
      this.#at = at;
      const whole = new BlockBatch(bytes.subarray(from, at), byteOrder, 0, 0);
      const encoded = whole.encode(this.byteOrder);
      return encoded === whole.bytes ? new Uint8Array(encoded) : encoded;
    }
    this.#at = from + HEADER_BYTES;
    const index = view.getUint32(from, little);
    const nValid = view.getUint16(from + 4, little);
    return this.#cut({ index, nValid, nInvalid: view.getUint16(from + 6, little) }, room);
  }

  /** Entries of a block as far as there is room, and its empty slots with the last of them. */
  #cut(
    { index, nValid, nInvalid }: { index: number; nValid: number; nInvalid: number },
    room: number,
  ): Uint8Array {
    const count = Math.min(nValid, Math.floor((room - HEADER_BYTES - 1) / HPTE_BYTES));
    const end = this.#at + count * HPTE_BYTES;
    const entries = this.#batch.bytes.subarray(this.#at, end);
    this.#at = end;
    const last = count === nValid;
    // An index is a u32 in tables of more slots too.
    const next = (index + count) >>> 0;
    this.#rest = last ? undefined : { index: next, nValid: nValid - count, nInvalid };
    return encodeBlock({ index, nInvalid: last ? nInvalid : 0, entries }, this.byteOrder);
  }

  write(): Promise<number> {
    return Promise.reject(htabFdError('write the HTAB fd', 'EBADF', 'it is a recording'));
  }

  writeBlocks(): Promise<BlocksWritten> {
    return Promise.resolve({ blocks: 0, bytes: 0, errno: 'EBADF' });
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#failure = new IoError('E_IO', 'the HTAB fd is closed', { actual: 'EBADF' });
      this.#giveUp?.(this.#failure);
      // A generator answers only when an item that is under way has come, and a silent one may
      // never: nothing waits.
      (async () => this.#items.return?.())().catch(() => undefined);
    }
    await this.#last;
  }
}
