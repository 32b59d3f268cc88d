import { closeSync, fsyncSync, ftruncateSync, openSync, renameSync, writeSync } from 'node:fs';

const CAPACITY = 4 * 1024 * 1024;

/**
 * Writes a file of any length front to back through one buffer. Generators fill `bytes` themselves
 * from what `room` returns on. The file has its name when it is whole, never before.
 */
export class FileWriter {
  readonly bytes = Buffer.allocUnsafeSlow(CAPACITY);
  readonly view = new DataView(this.bytes.buffer);
  readonly #fd: number;
  #used = 0;
  #flushed = 0;

  constructor(readonly path: string) {
    this.#fd = openSync(`${path}.part`, 'w', 0o600);
  }

  /** Where the next byte goes in the file. */
  get position(): number {
    return this.#flushed + this.#used;
  }

  /** Makes room for `n` bytes, at most 4 MiB, and takes it: where in `bytes` they go. */
  room(n: number): number {
    if (n > CAPACITY) throw new RangeError(`no room for ${n} bytes`);
    if (this.#used + n > CAPACITY) this.#flush();
    const at = this.#used;
    this.#used += n;
    return at;
  }

  put(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; from += CAPACITY) {
      const piece = bytes.subarray(from, from + CAPACITY);
      this.bytes.set(piece, this.room(piece.length));
    }
  }

  /** Passes over bytes up to a position: a hole, which reads as zeros. */
  passTo(position: number): void {
    this.#flush();
    this.#flushed = position;
  }

  #flush(): void {
    for (let done = 0; done < this.#used; ) {
      done += writeSync(this.#fd, this.bytes, done, this.#used - done, this.#flushed + done);
    }
    this.#flushed += this.#used;
    this.#used = 0;
  }

  /** Ends the file, and waits for the disk, which would be busy while things are measured. */
  close(): void {
    this.#flush();
    ftruncateSync(this.#fd, this.#flushed);
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    renameSync(`${this.path}.part`, this.path);
  }
}
