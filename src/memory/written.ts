import { TARGET_PAGE } from '../qevm/ram.js';

/** Bits held at most by default: a page each up to 32 GiB of RAM, in 1 MiB. */
const DEFAULT_LIMIT = 2 ** 23;

/**
 * Remembers which pages of a file were written, in memory that does not grow with the file: of a
 * large one, groups of pages share a bit, which says that one of them *may* have been written.
 */
export class WrittenPages {
  /** Bytes that share a bit: a page, or a power of two of them. */
  readonly granule: number;
  readonly #bits: Uint32Array;

  constructor(size: number, limit = DEFAULT_LIMIT) {
    let granule = TARGET_PAGE;
    while (size / granule > limit) granule *= 2;
    this.granule = granule;
    this.#bits = new Uint32Array(Math.ceil(Math.ceil(size / granule) / 32));
  }

  mark(position: number, length: number): void {
    const last = Math.floor((position + length - 1) / this.granule);
    for (let i = Math.floor(position / this.granule); i <= last; i++) {
      this.#bits[i >>> 5] = (this.#bits[i >>> 5] ?? 0) | (1 << (i & 31));
    }
  }

  /** The first position from `position` on that may have been written; `end` when none is below. */
  next(position: number, end: number): number {
    const last = Math.ceil(end / this.granule);
    for (let i = Math.floor(position / this.granule); i < last; ) {
      const word = (this.#bits[i >>> 5] ?? 0) >>> (i & 31);
      if (word === 0) {
        i = ((i >>> 5) + 1) * 32;
        continue;
      }
      i += 31 - Math.clz32(word & -word);
      return Math.min(end, Math.max(position, i * this.granule));
    }
    return end;
  }
}
