import { throwIfAborted } from '../errors.js';
import { endsEarly } from './copy.js';
import type { OperationOptions } from './reader.js';
import type { ByteSource } from './source.js';

/**
 * Where bytes go, front to back. Positions and lengths are bytes below 2^53; what was appended may
 * be reused as soon as the promise resolves.
 */
export interface ByteSink {
  /** Where the next byte goes, counted from the first byte of the output. */
  readonly position: number;
  append(bytes: Uint8Array): Promise<void>;
  /**
   * Appends `length` bytes of a source, from `from` on.
   * @throws FormatError `E_TRUNCATED` when the source ends before that
   */
  copy(source: ByteSource, from: number, length: number, options?: OperationOptions): Promise<void>;
  /** Appends so many zeros; a file gets a hole where its file system has them. */
  hole(length: number): Promise<void>;
}

const PIECE = 1024 * 1024;

/** Reads a range of a source in pieces; each is a view into memory that the next one reuses. */
export async function* piecesOf(
  source: ByteSource,
  from: number,
  length: number,
  { signal, onProgress }: OperationOptions = {},
): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE, Math.max(1, length)));
  for (let done = 0; done < length; ) {
    throwIfAborted(signal);
    const target = buffer.subarray(0, Math.min(buffer.length, length - done));
    const count = await source.read(target, from + done);
    if (count === 0) throw endsEarly(source, from, length, done);
    yield target.subarray(0, count);
    done += count;
    onProgress?.({ position: from + done, total: source.size });
  }
}

/** A sink over anything that takes bytes: a pipe, a socket, a compressor. */
export class PipeSink implements ByteSink {
  #position = 0;

  constructor(readonly out: { write(bytes: Uint8Array): Promise<void> }) {}

  get position(): number {
    return this.#position;
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.out.write(bytes);
    this.#position += bytes.length;
  }

  async copy(
    source: ByteSource,
    from: number,
    length: number,
    options?: OperationOptions,
  ): Promise<void> {
    for await (const piece of piecesOf(source, from, length, options)) await this.append(piece);
  }

  async hole(length: number): Promise<void> {
    const zeros = Buffer.alloc(Math.min(PIECE, length));
    for (let left = length; left > 0; left -= zeros.length) {
      await this.append(zeros.subarray(0, Math.min(left, zeros.length)));
    }
  }
}

const GATHERED = 256 * 1024;
/** Longer pieces go straight on. */
const SMALL = GATHERED / 4;

/**
 * Gathers small pieces in front of another sink: a live migration has tens of thousands of parts,
 * and a system call for each side of each would take longer than their bytes. `flush` at the end.
 */
export class GatheringSink implements ByteSink {
  readonly #buffer = Buffer.allocUnsafeSlow(GATHERED);
  #length = 0;

  constructor(readonly out: ByteSink) {}

  get position(): number {
    return this.out.position + this.#length;
  }

  async append(bytes: Uint8Array): Promise<void> {
    if (bytes.length > SMALL) {
      await this.flush();
      await this.out.append(bytes);
      return;
    }
    if (this.#length + bytes.length > GATHERED) await this.flush();
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  async copy(
    source: ByteSource,
    from: number,
    length: number,
    options?: OperationOptions,
  ): Promise<void> {
    if (length <= SMALL) {
      for await (const piece of piecesOf(source, from, length, options)) await this.append(piece);
    } else {
      await this.flush();
      await this.out.copy(source, from, length, options);
    }
  }

  async hole(length: number): Promise<void> {
    await this.flush();
    await this.out.hole(length);
  }

  async flush(): Promise<void> {
    if (this.#length === 0) return;
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#length = 0;
    await this.out.append(bytes);
  }
}
