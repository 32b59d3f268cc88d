import { FormatError, throwIfAborted } from '../errors.js';
import { type LimitOptions, type Limits, limitsOf } from '../limits.js';
import { abortable } from './abort.js';
import { type FileRange, fileBehind } from './file-behind.js';
import { Pace } from './pace.js';
import { LEFT_OVER, PIECE, ReadAhead, Slot } from './read-ahead.js';
import type { ByteSource } from './source.js';

/** Called now and then while a long operation reads its input. Counts are bytes. */
export type ProgressListener = (progress: {
  readonly position: number;
  readonly total: number | undefined;
}) => void;

/** What every long operation takes. */
export interface OperationOptions {
  /** Ends the operation with an AbortedError. Default: never. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each large read. Default: nobody is told. */
  readonly onProgress?: ProgressListener | undefined;
  /** What the input may make of the process: bounds that differ from `DEFAULT_LIMITS`, by name. */
  readonly limits?: LimitOptions | undefined;
}

export interface ByteReaderOptions extends OperationOptions {
  /** Position of the first byte. Default 0. */
  readonly start?: number;
  /**
   * Bytes of one read: a multiple of 4096. Default 1 MiB.
   * @internal
   */
  readonly piece?: number;
}

/** Bytes of the first read after a seek, and how much longer each one is than the one before. */
const FIRST_READ = 256 * 1024;
const GROWTH = 4;

/** Bytes that `ensure` can be asked for at most: the largest block fits twice. */
export const LARGEST_ENSURE = LEFT_OVER;

/**
 * A forward cursor over a source with a window of buffered bytes.
 *
 * `ensure(n)` is the only place that waits; after it, `n` bytes at `pos` can be parsed without a
 * promise in between. Decoders with hot loops work on `buffer`, `view`, `pos` and `end` directly
 * and advance `pos` themselves. Whatever `ensure` or `skip` moves invalidates earlier subarrays, and
 * `buffer` and `view` are others then: they belong to the piece of the source that was read last.
 */
export class ByteReader {
  /** Index into `buffer` of the next byte, and one past the last buffered one. */
  pos: number;
  end: number;
  /** What is being read, for messages. */
  path: string | undefined;
  /** Bytes of one read. */
  readonly piece: number;
  /** What holds for the input. */
  readonly limits: Limits;
  #slot: Slot;
  /** Index of the first buffered byte. */
  #begin: number;
  /** File position of `buffer[0]`; negative where there is room in front. */
  #base: number;
  #tap: ((bytes: Uint8Array) => void) | undefined;
  #tapFrom = 0;
  readonly #pace = new Pace(undefined);
  /** Bytes of the next read that is not ahead: whoever seeks may seek again soon. */
  #next: number;
  readonly #ahead: ReadAhead;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: ProgressListener | undefined;

  constructor(
    readonly source: ByteSource,
    options: ByteReaderOptions = {},
  ) {
    const start = options.start ?? 0;
    this.piece = options.piece ?? PIECE;
    this.#next = this.piece;
    this.limits = limitsOf(options.limits);
    this.#ahead = new ReadAhead(source, this.piece);
    this.#slot = Slot.for(source, start, this.piece);
    this.#begin = this.#slot.place(start);
    this.pos = this.#begin;
    this.end = this.#begin;
    this.#base = start - this.#begin;
    this.#signal = options.signal;
    this.#onProgress = options.onProgress;
  }

  get buffer(): Uint8Array {
    return this.#slot.bytes;
  }

  get view(): DataView {
    return this.#slot.view;
  }

  /** Position in the source of the next byte. */
  get offset(): number {
    return this.#base + this.pos;
  }

  get available(): number {
    return this.end - this.pos;
  }

  /**
   * Makes at least `n` bytes available at `pos`.
   * @throws FormatError `E_TRUNCATED` naming `what` when the source ends before that.
   */
  async ensure(n: number, what: string): Promise<void> {
    if (await this.tryEnsure(n)) return;
    throw this.truncated(n, what);
  }

  /** Like {@link ensure}, but resolves to false at the end of the source. */
  async tryEnsure(n: number): Promise<boolean> {
    if (n > LARGEST_ENSURE) throw new RangeError(`ensure(${n}) exceeds the window`);
    // A window of tiny elements is long work, and a source may wait for nothing (zeros of a hole).
    if (this.#pace.due) {
      await this.#pace.pause();
      throwIfAborted(this.#signal);
    }
    while (this.end - this.pos < n) {
      if (!(await this.#fill())) return false;
    }
    return true;
  }

  /** Whether no byte is left. */
  async atEnd(): Promise<boolean> {
    return this.end === this.pos && !(await this.tryEnsure(1));
  }

  truncated(needed: number, what: string): FormatError {
    return new FormatError('E_TRUNCATED', `the file ends inside ${what}`, {
      offset: this.offset,
      path: this.path,
      expected: `${needed} bytes`,
      actual: `${this.available}`,
    });
  }

  /** Reads one more piece into the window; false at the end of the source. */
  async #fill(): Promise<boolean> {
    throwIfAborted(this.#signal);
    const position = this.#base + this.end;
    const room = this.end < this.#slot.limit && !this.#ahead.expects(position);
    const count = room ? await this.#append(position) : await this.#turnOver(position);
    this.#onProgress?.({ position: position + count, total: this.source.size });
    return count > 0;
  }

  /** Reads into what is left of the slot. */
  async #append(position: number): Promise<number> {
    const { bytes, limit } = this.#slot;
    const end = Math.min(limit, this.end + this.#next);
    this.#next = Math.min(this.piece, this.#next * GROWTH);
    const reading = this.source.read(bytes.subarray(this.end, end), position);
    const count = await abortable(reading, this.#signal);
    this.end += count;
    return count;
  }

  /** Goes on in another slot, with what is not taken yet in front. */
  async #turnOver(position: number): Promise<number> {
    const { slot, at, count } = await this.#ahead.take(position, this.#signal);
    if (count === 0) {
      this.#ahead.release(slot);
      return 0;
    }
    this.#flushTap();
    const left = this.end - this.pos;
    slot.bytes.set(this.buffer.subarray(this.pos, this.end), at - left);
    this.#ahead.release(this.#slot);
    this.#slot = slot;
    this.#base = position - at;
    this.#begin = at - left;
    this.pos = this.#begin;
    this.end = at + count;
    this.#tapFrom = this.pos;
    return count;
  }

  /** Next byte without taking it; call `ensure(1)` before. */
  peek(at = 0): number {
    return this.view.getUint8(this.pos + at);
  }

  /** The big-endian scalars of a stream; each wants an `ensure` before. */
  u8(): number {
    return this.view.getUint8(this.pos++);
  }

  u16(): number {
    const value = this.view.getUint16(this.pos);
    this.pos += 2;
    return value;
  }

  u32(): number {
    const value = this.view.getUint32(this.pos);
    this.pos += 4;
    return value;
  }

  u64(): bigint {
    const value = this.view.getBigUint64(this.pos);
    this.pos += 8;
    return value;
  }

  /** A copy of the next `n` buffered bytes, taken. */
  take(n: number): Uint8Array {
    const bytes = this.buffer.slice(this.pos, this.pos + n);
    this.pos += n;
    return bytes;
  }

  /**
   * Passes over `n` bytes: by seeking where the source allows it and nobody listens to them.
   * @throws FormatError `E_TRUNCATED` when the source is known to end before that.
   */
  async skip(n: number, what: string): Promise<void> {
    if (this.end - this.pos >= n) {
      this.pos += n;
      return;
    }
    const size = this.source.size;
    if (size !== undefined && this.offset + n > size) throw this.truncated(n, what);
    if (this.source.seekable && size !== undefined && this.#tap === undefined) {
      this.seek(this.offset + n);
      return;
    }
    for (let left = n; left > 0; ) {
      if (this.end === this.pos && !(await this.tryEnsure(1))) throw this.truncated(left, what);
      const step = Math.min(left, this.end - this.pos);
      this.pos += step;
      left -= step;
    }
  }

  /**
   * Like {@link skip}, as steps of a walk: when the bytes must be read, it yields once a window.
   */
  async *passOver(n: number, what: string): AsyncGenerator<void> {
    const seeks = this.source.seekable && this.#tap === undefined;
    const step = seeks ? n : LARGEST_ENSURE / 2;
    for (let left = n; left > 0; left -= step) {
      await this.skip(Math.min(left, step), what);
      yield;
    }
  }

  /** Goes on at another position of a seekable source. */
  seek(position: number): void {
    this.#flushTap();
    const inside = position - this.#base;
    if (inside >= this.#begin && inside <= this.end) {
      this.pos = inside;
    } else {
      this.#ahead.drop();
      this.pos = this.#slot.place(position);
      this.end = this.pos;
      this.#begin = this.pos;
      this.#base = position - this.pos;
      this.#next = Math.min(this.piece, FIRST_READ);
    }
    this.#tapFrom = this.pos;
  }

  /** Where the next byte stands in a file, unless somebody listens to what is taken. */
  fileBehind(): FileRange | undefined {
    return this.#tap === undefined ? fileBehind(this.source, this.offset) : undefined;
  }

  /**
   * Goes on at the position that `pass` gives, which passes over bytes in the file behind the source.
   * @throws AbortedError as soon as the signal fires; what `pass` throws
   */
  async passOn(pass: () => Promise<number>): Promise<void> {
    throwIfAborted(this.#signal);
    const read = this.#base + this.end;
    const position = await abortable(pass(), this.#signal);
    this.seek(position);
    if (position > read) this.#onProgress?.({ position, total: this.source.size });
  }

  /**
   * Hands every byte that is taken from now on to `listener`, in order; `untap` ends that. The
   * bytes are only valid during the call.
   */
  tap(listener: (bytes: Uint8Array) => void): void {
    this.#tap = listener;
    this.#tapFrom = this.pos;
  }

  /** Hands over what was taken since the last call of the listener. */
  flushTap(): void {
    this.#flushTap();
  }

  untap(): void {
    this.#flushTap();
    this.#tap = undefined;
  }

  #flushTap(): void {
    if (this.#tap === undefined || this.pos <= this.#tapFrom) return;
    this.#tap(this.buffer.subarray(this.#tapFrom, this.pos));
    this.#tapFrom = this.pos;
  }
}
