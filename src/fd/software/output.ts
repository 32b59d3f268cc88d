import type { Work } from './turns.js';

const FIRST_BYTES = 4096;
/** Bytes that are copied in one piece. */
const PIECE = 1 << 20;

/** The caller's buffer: it grows with what is put into it, not with what was asked for. */
export class Output {
  bytes: Uint8Array;
  #view: DataView;
  readonly #little: boolean;

  constructor(
    /** Bytes that the caller's buffer has. */
    readonly limit: number,
    little: boolean,
  ) {
    this.#little = little;
    this.bytes = new Uint8Array(Math.min(limit, FIRST_BYTES));
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Makes room for more, up to the limit. */
  *grow(): Work<void> {
    const { bytes } = this;
    this.bytes = yield* copy(bytes, bytes.length, Math.min(this.limit, 2 * bytes.length));
    this.#view = new DataView(this.bytes.buffer);
  }

  header(at: number, index: number, nValid: number, nInvalid: number): void {
    this.#view.setUint32(at, index % 2 ** 32, this.#little);
    this.#view.setUint16(at + 4, nValid, this.#little);
    this.#view.setUint16(at + 6, nInvalid, this.#little);
  }

  *take(length: number): Work<Uint8Array> {
    if (length === this.bytes.length) return this.bytes;
    return yield* copy(this.bytes, length, length);
  }
}

/** The first `length` bytes, in a buffer of `size` of its own. */
function* copy(bytes: Uint8Array, length: number, size: number): Work<Uint8Array> {
  const copied = new Uint8Array(size);
  for (let at = 0; at < length; at += PIECE) {
    if (at > 0) yield;
    copied.set(bytes.subarray(at, Math.min(length, at + PIECE)), at);
  }
  return copied;
}
