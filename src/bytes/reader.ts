import { FormatError, throwIfAborted } from '../errors.js';
import { abortable } from './abort.js';
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
}

export interface ByteReaderOptions extends OperationOptions {
  /** Position of the first byte. Default 0. */
  readonly start?: number;
  /** Bytes held at most; also the largest `ensure`. Default 2 MiB: the largest block fits twice. */
  readonly capacity?: number;
}

/** How much is read before other work of the process gets a turn. */
const YIELD_BYTES = 64 * 1024 * 1024;

export const DEFAULT_CAPACITY = 2 * 1024 * 1024;

/**
 * A forward cursor over a source with a window of buffered bytes.
 *
 * `ensure(n)` is the only place that waits; after it, `n` bytes at `pos` can be parsed without a
 * promise in between. Decoders with hot loops work on `buffer`, `view`, `pos` and `end` directly
 * and advance `pos` themselves. Whatever `ensure` or `skip` moves invalidates earlier subarrays.
 */
export class ByteReader {
  readonly buffer: Uint8Array;
  readonly view: DataView;
  /** Index into `buffer` of the next byte, and one past the last buffered one. */
  pos = 0;
  end = 0;
  /** What is being read, for messages. */
  path: string | undefined;
  /** File position of `buffer[0]`. */
  #base: number;
  #tap: ((bytes: Uint8Array) => void) | undefined;
  #tapFrom = 0;
  #unyielded = 0;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: ProgressListener | undefined;

  constructor(
    readonly source: ByteSource,
    options: ByteReaderOptions = {},
  ) {
    // Not cleared: only bytes that were read are ever looked at, and small files touch little of it.
    const memory = Buffer.allocUnsafeSlow(options.capacity ?? DEFAULT_CAPACITY).buffer;
    this.buffer = new Uint8Array(memory);
    this.view = new DataView(memory);
    this.#base = options.start ?? 0;
    this.#signal = options.signal;
    this.#onProgress = options.onProgress;
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
    if (this.end - this.pos >= n || (await this.tryEnsure(n))) return;
    throw this.truncated(n, what);
  }

  /** Like {@link ensure}, but resolves to false at the end of the source. */
  async tryEnsure(n: number): Promise<boolean> {
    if (n > this.buffer.length) throw new RangeError(`ensure(${n}) exceeds the window`);
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
    if (this.pos > 0) {
      this.#flushTap();
      this.buffer.copyWithin(0, this.pos, this.end);
      this.#base += this.pos;
      this.end -= this.pos;
      this.pos = 0;
      this.#tapFrom = 0;
    }
    const position = this.#base + this.end;
    const reading = this.source.read(this.buffer.subarray(this.end), position);
    const count = await abortable(reading, this.#signal);
    this.end += count;
    // A source that waits for nothing (zeros of a hole) would keep timers and signals from running.
    this.#unyielded += count;
    if (this.#unyielded >= YIELD_BYTES) {
      this.#unyielded = 0;
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#onProgress?.({ position: position + count, total: this.source.size });
    return count > 0;
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
    const step = seeks ? n : this.buffer.length / 2;
    for (let left = n; left > 0; left -= step) {
      await this.skip(Math.min(left, step), what);
      yield;
    }
  }

  /** Goes on at another position of a seekable source. */
  seek(position: number): void {
    this.#flushTap();
    const inside = position - this.#base;
    if (inside >= 0 && inside <= this.end) {
      this.pos = inside;
    } else {
      this.#base = position;
      this.pos = 0;
      this.end = 0;
    }
    this.#tapFrom = this.pos;
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
