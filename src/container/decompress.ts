import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { type ByteSource, IterableSource } from '../bytes/source.js';
import { FormatError, SpaprHtabError, throwIfAborted } from '../errors.js';
import { exceeded, type LimitOptions, limitsOf } from '../limits.js';
import { EXTERNAL, type ExternalKind, type Piped, pipeThrough } from './external.js';

export type CompressionKind = 'gzip' | ExternalKind;

/** Whether a container is a compressed file. */
export function isCompression(kind: string): kind is CompressionKind {
  return kind === 'gzip' || kind in EXTERNAL;
}

export interface DecompressOptions {
  /** Where the compressed bytes begin. Default 0; they go on to the end of the source. */
  readonly start?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly limits?: LimitOptions | undefined;
}

/** Bytes that come out before their ratio to those that go in counts. */
const UNWEIGHED = 1024 ** 3;
/** Bytes handed to a decompressor at a time. */
const PIECE = 256 * 1024;

/**
 * Decompresses a source: gzip by Node's zlib, the others by the programs that libvirt uses
 * (src/qemu/qemu_saveimage.c, libvirt 11.3). The result can only be read forward; closing it ends
 * the program and closes the given source, which belongs to it from the call on.
 *
 * Reading throws FormatError `E_COMPRESSED` where the compressed bytes are damaged or cut off, and
 * LimitError beyond `decompressedBytes` and `decompressionRatio`.
 *
 * @throws UnsupportedError `E_PROGRAM_MISSING` when the program is not installed
 */
export async function openDecompressed(
  source: ByteSource,
  kind: CompressionKind,
  options: DecompressOptions = {},
): Promise<ByteSource> {
  throwIfAborted(options.signal);
  const start = options.start ?? 0;
  const weight = new Weight(source, start, options.limits);
  const feed = () => pieces(source, start, options.signal, weight);
  const piped =
    kind === 'gzip'
      ? gunzip(feed(), source.name, start)
      : await pipeThrough(EXTERNAL[kind], source, start, feed);
  return new DecompressedSource(source, kind, piped, weight, options.signal);
}

/** The bytes of a source from `start` on; each piece is its own memory. */
async function* pieces(
  source: ByteSource,
  start: number,
  signal: AbortSignal | undefined,
  weight: Weight,
): AsyncGenerator<Uint8Array> {
  for (let position = start; ; ) {
    throwIfAborted(signal);
    const piece = Buffer.allocUnsafeSlow(PIECE);
    const count = await source.read(piece, position);
    if (count === 0) return;
    position += count;
    if (source.size === undefined) weight.in += count;
    yield piece.subarray(0, count);
  }
}

/** Weighs what comes out of a decompressor against its limits. */
class Weight {
  /** Bytes that were given; of a source of known size, all that it has. */
  in: number;
  #out = 0;
  readonly #limits;

  constructor(
    readonly source: ByteSource,
    readonly start: number,
    limits: LimitOptions | undefined,
  ) {
    this.#limits = limitsOf(limits);
    this.in = Math.max(0, (source.size ?? 0) - start);
  }

  /** @throws LimitError */
  add(bytes: number): void {
    this.#out += bytes;
    const { decompressedBytes, decompressionRatio } = this.#limits;
    const offset = this.start;
    if (this.#out > decompressedBytes) {
      const message = `what ${this.source.name} holds is too long`;
      throw exceeded(this.#limits, 'decompressedBytes', message, { offset, actual: this.#out });
    }
    if (this.#out > UNWEIGHED && this.#out > this.in * decompressionRatio) {
      const message = `${this.in} bytes of ${this.source.name} become ${this.#out}`;
      throw exceeded(this.#limits, 'decompressionRatio', message, { offset });
    }
  }
}

function gunzip(input: AsyncGenerator<Uint8Array>, name: string, start: number): Piped {
  const decoder = createGunzip({ chunkSize: PIECE });
  const feed = Readable.from(input);
  const done = pipeline(feed, decoder);
  // What fails is seen where the output is read.
  done.catch(() => {});
  return {
    output: decoder,
    check: () => Promise.resolve(),
    explain: (error) =>
      error instanceof SpaprHtabError
        ? error
        : new FormatError('E_COMPRESSED', `the gzip data of ${name} cannot be decompressed`, {
            offset: start,
            actual: error instanceof Error ? error.message : String(error),
            cause: error,
          }),
    end: () => {
      decoder.destroy();
      feed.destroy();
      return Promise.resolve();
    },
  };
}

/** The output of a decompressor. An error stays: no later read takes it for the end. */
class DecompressedSource extends IterableSource {
  readonly #parent: ByteSource;
  readonly #piped: Piped;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: () => void;
  #failure: unknown;
  #closed: Promise<void> | undefined;

  constructor(
    parent: ByteSource,
    kind: CompressionKind,
    piped: Piped,
    weight: Weight,
    signal: AbortSignal | undefined,
  ) {
    super(outputOf(piped, weight), `${parent.name} (${kind})`);
    this.#parent = parent;
    this.#piped = piped;
    this.#signal = signal;
    this.#onAbort = () => void this.#end();
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  override async read(target: Uint8Array, position: number): Promise<number> {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      throwIfAborted(this.#signal);
      const count = await super.read(target, position);
      // What the program still said when it was ended by the signal is no finding.
      throwIfAborted(this.#signal);
      return count;
    } catch (error) {
      if (!(error instanceof SpaprHtabError && error.code === 'E_NOT_SEEKABLE')) {
        this.#failure = this.#signal?.aborted ? abortedError(this.#signal, error) : error;
        throw this.#failure;
      }
      throw error;
    }
  }

  async #end(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await this.#piped.end();
  }

  override close(): Promise<void> {
    this.#closed ??= this.#closeAll();
    return this.#closed;
  }

  async #closeAll(): Promise<void> {
    try {
      await this.#end();
      await super.close();
    } finally {
      await this.#parent.close();
    }
  }
}

function abortedError(signal: AbortSignal, other: unknown): unknown {
  try {
    throwIfAborted(signal);
    return other;
  } catch (error) {
    return error;
  }
}

async function* outputOf(piped: Piped, weight: Weight): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of piped.output) {
      weight.add((piece as Uint8Array).length);
      yield piece as Uint8Array;
    }
    await piped.check();
  } catch (error) {
    throw piped.explain(error);
  }
}
