import { type FileHandle, open, stat as pathStat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { ioError, UsageError } from '../errors.js';
import { openFifo } from './fifo.js';
import { LentHandle } from './lend.js';
import { readHandle } from './read-handle.js';

/**
 * Where bytes come from, apart from what they mean.
 *
 * Positions and sizes are byte counts below 2^53. A source that is not seekable (a pipe) can only
 * be read forward; positions that were passed are gone, except for a retained head.
 */
export interface ByteSource extends AsyncDisposable {
  /** For messages: a path, or words such as `<stdin>`. */
  readonly name: string;
  /** Total size in bytes where it is known beforehand. */
  readonly size: number | undefined;
  /** Whether any position can be read at any time. */
  readonly seekable: boolean;
  /** Whether reads may overlap: then it is read ahead. Default false. */
  readonly concurrent?: boolean;
  /**
   * Reads at most `target.length` bytes at `position`; resolves to how many were read, 0 only at
   * the end (or for an empty target). Short reads are allowed.
   * @throws IoError when the device fails; UsageError `E_NOT_SEEKABLE` when the position has passed.
   */
  read(target: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/** Bytes in memory. */
export class BufferSource implements ByteSource {
  readonly seekable = true;
  readonly size: number;

  constructor(
    readonly bytes: Uint8Array,
    readonly name = '<memory>',
  ) {
    this.size = bytes.length;
  }

  read(target: Uint8Array, position: number): Promise<number> {
    const part = this.bytes.subarray(position, position + target.length);
    target.set(part);
    return Promise.resolve(part.length);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A regular file or block device. Made by {@link openFile}. */
export class FileSource implements ByteSource {
  readonly seekable = true;
  readonly concurrent = true;
  readonly #lent: LentHandle;

  constructor(
    readonly name: string,
    readonly handle: FileHandle,
    readonly size: number,
  ) {
    this.#lent = new LentHandle(handle);
  }

  /**
   * Lets the file's descriptor be used outside Node's fs; `close` waits for that. Its own position
   * means nothing here and may be moved.
   * @internal
   */
  lend<T>(use: (fd: number) => Promise<T>): Promise<T> {
    return this.#lent.lend(use);
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    try {
      return await readHandle(this.handle, target, position);
    } catch (error) {
      throw ioError(error, 'read', this.name);
    }
  }

  /** Never fails: what was read is read. */
  async close(): Promise<void> {
    await this.#lent.close().catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** How many bytes at its beginning a forward-only source keeps for reading again. */
export const RETAINED_HEAD = 4 * 1024 * 1024;

const NOTHING = new Uint8Array(0);

/**
 * A forward-only source over anything that yields byte pieces: a pipe, a socket, a decompressor.
 * The first {@link RETAINED_HEAD} bytes stay readable, so that a format can be recognised.
 *
 * A piece is not looked at any more once the next one was asked for, or the end: its memory may be
 * used again.
 */
export class IterableSource implements ByteSource {
  readonly seekable = false;
  readonly size = undefined;
  readonly #iterator: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  /** The retained head, and how much of it is filled. Grows by doubling. */
  #head = NOTHING;
  #headLength = 0;
  /** The piece that is being handed out, and the position of its first byte. */
  #piece: Uint8Array = NOTHING;
  #pieceStart = 0;
  #done = false;
  /** What the producer failed with: every later read beyond that point fails the same way. */
  #failure: Error | undefined;

  constructor(
    private readonly iterable: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    readonly name = '<stream>',
  ) {
    this.#iterator =
      Symbol.asyncIterator in iterable
        ? iterable[Symbol.asyncIterator]()
        : iterable[Symbol.iterator]();
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    if (target.length === 0) return 0;
    if (position < this.#pieceStart) return this.#readHead(target, position);
    while (position >= this.#pieceStart + this.#piece.length) {
      if (!(await this.#pull())) return 0;
    }
    const at = position - this.#pieceStart;
    const part = this.#piece.subarray(at, at + target.length);
    target.set(part);
    return part.length;
  }

  #readHead(target: Uint8Array, position: number): number {
    if (position >= this.#headLength) {
      throw new UsageError(
        'E_NOT_SEEKABLE',
        `${this.name} is a pipe and cannot be read again; save it to a file first`,
        { offset: position },
      );
    }
    const part = this.#head.subarray(position, this.#headLength).subarray(0, target.length);
    target.set(part);
    return part.length;
  }

  #retain(piece: Uint8Array): void {
    const part = piece.subarray(0, RETAINED_HEAD - this.#headLength);
    const length = this.#headLength + part.length;
    if (length > this.#head.length) {
      const grown = new Uint8Array(Math.min(RETAINED_HEAD, Math.max(length, length * 2)));
      grown.set(this.#head.subarray(0, this.#headLength));
      this.#head = grown;
    }
    this.#head.set(part, this.#headLength);
    this.#headLength = length;
  }

  async #pull(): Promise<boolean> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#done) return false;
    this.#pieceStart += this.#piece.length;
    this.#piece = NOTHING;
    let next: IteratorResult<Uint8Array>;
    try {
      next = await this.#iterator.next();
    } catch (error) {
      this.#failure = ioError(error, 'read', this.name);
      throw this.#failure;
    }
    if (next.done) {
      this.#done = true;
      return false;
    }
    this.#piece = next.value;
    if (this.#headLength < RETAINED_HEAD) this.#retain(next.value);
    return true;
  }

  async close(): Promise<void> {
    this.#done = true;
    // A generator answers only when a pull that is under way has ended, and a silent pipe may never
    // end it: what can be torn down is, and nothing waits.
    if (this.iterable instanceof Readable) this.iterable.destroy();
    else void Promise.resolve(this.#iterator.return?.()).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A window of another source: `length` bytes from `start`, or everything from there. */
export class SliceSource implements ByteSource {
  readonly seekable: boolean;
  readonly concurrent: boolean;
  readonly size: number | undefined;
  readonly name: string;

  constructor(
    readonly parent: ByteSource,
    readonly start: number,
    length?: number,
    /** Whether closing the window closes the other source. Default true. */
    readonly closesParent = true,
  ) {
    this.name = parent.name;
    this.seekable = parent.seekable;
    this.concurrent = parent.concurrent ?? false;
    const rest = parent.size === undefined ? undefined : Math.max(0, parent.size - start);
    this.size = length === undefined ? rest : Math.min(length, rest ?? length);
  }

  read(target: Uint8Array, position: number): Promise<number> {
    const room = this.size === undefined ? target.length : Math.max(0, this.size - position);
    return this.parent.read(
      room < target.length ? target.subarray(0, room) : target,
      this.start + position,
    );
  }

  close(): Promise<void> {
    return this.closesParent ? this.parent.close() : Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Opens a path for reading: a {@link FileSource} for regular files and block devices, a
 * forward-only {@link IterableSource} for pipes, which may have no writer yet, and character devices.
 * @throws IoError
 */
export async function openFile(path: string): Promise<ByteSource> {
  let handle: FileHandle | undefined;
  try {
    if ((await pathStat(path)).isFIFO()) return new IterableSource(await openFifo(path), path);
    handle = await open(path, 'r');
    const stat = await handle.stat();
    if (stat.isFile()) return new FileSource(path, handle, stat.size);
    if (stat.isBlockDevice()) return new FileSource(path, handle, await deviceSize(handle));
    if (stat.isDirectory()) throw Object.assign(new Error('is a directory'), { code: 'EISDIR' });
    return new IterableSource(handle.createReadStream({ highWaterMark: 1024 * 1024 }), path);
  } catch (error) {
    await handle?.close().catch(() => undefined);
    throw ioError(error, 'open', path);
  }
}

/** A block device has no size in stat(2); the last readable byte is found by bisection. */
async function deviceSize(handle: FileHandle): Promise<number> {
  const probe = new Uint8Array(1);
  const readable = async (position: number): Promise<boolean> =>
    (await readHandle(handle, probe, position)) === 1;
  let low = 0;
  let high = 512;
  while (high < 2 ** 52 && (await readable(high - 1))) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (await readable(middle - 1)) low = middle;
    else high = middle;
  }
  return low;
}
