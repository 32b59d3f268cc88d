import type { RandomAccessFile } from '../bytes/output.js';

const CHUNK = 64 * 1024;

/** A sparse file in memory: only what was written takes room, and the rest reads as zeros. */
export class MemoryFile implements RandomAccessFile {
  readonly #chunks = new Map<number, Uint8Array>();
  #size = 0;

  /** Bytes, holes included. */
  get size(): number {
    return this.#size;
  }

  /** Bytes that take room, in whole chunks of 64 KiB. */
  get allocated(): number {
    return this.#chunks.size * CHUNK;
  }

  /**
   * What takes room: the position and the bytes of each chunk, in no order.
   * @internal
   */
  *chunks(): Generator<readonly [position: number, bytes: Uint8Array]> {
    for (const [number, chunk] of this.#chunks) yield [number * CHUNK, chunk];
  }

  read(target: Uint8Array, position: number): Promise<number> {
    const length = Math.max(0, Math.min(target.length, this.#size - position));
    for (let done = 0; done < length; ) {
      const at = (position + done) % CHUNK;
      const step = Math.min(length - done, CHUNK - at);
      const chunk = this.#chunks.get(Math.floor((position + done) / CHUNK));
      if (chunk === undefined) target.fill(0, done, done + step);
      else target.set(chunk.subarray(at, at + step), done);
      done += step;
    }
    return Promise.resolve(length);
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const number = Math.floor((position + done) / CHUNK);
      const at = (position + done) % CHUNK;
      const step = Math.min(bytes.length - done, CHUNK - at);
      let chunk = this.#chunks.get(number);
      if (chunk === undefined) {
        chunk = new Uint8Array(CHUNK);
        this.#chunks.set(number, chunk);
      }
      chunk.set(bytes.subarray(done, done + step), at);
      done += step;
    }
    this.#size = Math.max(this.#size, position + bytes.length);
    return Promise.resolve();
  }

  truncate(size: number): Promise<void> {
    for (const [number, chunk] of this.#chunks) {
      if (number * CHUNK >= size) this.#chunks.delete(number);
      else if (number * CHUNK + CHUNK > size) chunk.fill(0, size - number * CHUNK);
    }
    this.#size = size;
    return Promise.resolve();
  }
}
