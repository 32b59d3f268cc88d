import { HALF_PAGE } from './read-ahead.js';

/** Bytes of one write. */
const PIECE = 1024 * 1024;
/** Writes that are under way while the next piece is filled. */
const DEPTH = 2;

type Write = (bytes: Uint8Array, position: number) => Promise<void>;

/**
 * Gathers what is appended to a file into large pieces, and writes them while the next one is
 * filled. What is appended is copied, so its memory is the caller's again at once.
 *
 * An error of a write comes with a later call, and with every one after it.
 */
export class WriteBehind {
  readonly #free: Uint8Array[] = [];
  #made = 0;
  #piece: Uint8Array | undefined;
  /** Bytes in the piece, and where in the file they go. */
  #length = 0;
  #position = 0;
  readonly #writing = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(readonly write: Write) {}

  /** Appends to what is there, or begins elsewhere. Waits only while too much is being written. */
  async append(bytes: Uint8Array, position: number): Promise<void> {
    if (position !== this.#position + this.#length) this.#start();
    for (let done = 0; done < bytes.length; ) {
      if (this.#piece === undefined) {
        this.#piece = this.#free.pop() ?? (await this.#another());
        this.#length = 0;
        this.#position = position + done;
      }
      // Pieces end at multiples of their length, whatever was first.
      const end = this.#position - (this.#position % PIECE) + PIECE;
      const count = Math.min(bytes.length - done, end - this.#position - this.#length);
      this.#piece.set(bytes.subarray(done, done + count), this.#length);
      this.#length += count;
      done += count;
      if (this.#position + this.#length === end) this.#start();
    }
    this.#check();
  }

  /** Resolves when all is written. @throws what a write threw */
  async flush(): Promise<void> {
    this.#start();
    while (this.#writing.size > 0) await Promise.all(this.#writing);
    this.#check();
  }

  async #another(): Promise<Uint8Array> {
    if (this.#made <= DEPTH) {
      this.#made++;
      return Buffer.allocUnsafeSlow(HALF_PAGE + PIECE).subarray(HALF_PAGE);
    }
    while (this.#free.length === 0) await Promise.race(this.#writing);
    return this.#free.pop() as Uint8Array;
  }

  #start(): void {
    const piece = this.#piece;
    if (piece === undefined) return;
    this.#piece = undefined;
    const writing = this.write(piece.subarray(0, this.#length), this.#position)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .then(() => {
        this.#writing.delete(writing);
        this.#free.push(piece);
      });
    this.#writing.add(writing);
    this.#position += this.#length;
    this.#length = 0;
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
