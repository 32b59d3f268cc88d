import { abortable } from './abort.js';
import type { ByteSource } from './source.js';

/** Bytes of one read of a large source. */
export const PIECE = 1024 * 1024;
/** Bytes in front of a piece for what is left of the one before, at most. */
export const LEFT_OVER = 2 * 1024 * 1024;
/** Reads that are under way while a piece is decoded. */
const DEPTH = 2;
/** Bytes of a page, of memory and of the page cache. */
const PAGE = 4096;
/**
 * How far in their pages bytes in memory lie from where they lie in the file. Copies between places
 * that are a few bytes apart in their pages take half as long again: loads then seem to hit what was
 * just stored. Large ArrayBuffers begin 16 bytes into a page.
 */
export const HALF_PAGE = PAGE / 2;

/** Memory that is read into, with room in front of the piece. */
export class Slot {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  private constructor(
    /** Where a piece begins whose position in the source is a multiple of a page. */
    readonly head: number,
    /** One past the last byte that is read into. */
    readonly limit: number,
  ) {
    // Not cleared: only bytes that were read are looked at, and pages of it that are not used are
    // never there.
    const memory = Buffer.allocUnsafeSlow(limit).buffer;
    this.bytes = new Uint8Array(memory);
    this.view = new DataView(memory);
  }

  /** For pieces of a source that has more to come. */
  static large(piece: number): Slot {
    const head = LEFT_OVER + HALF_PAGE;
    return new Slot(head, head + piece);
  }

  /** For what a source has from `start` on: all of it, if that is no more than a piece. */
  static for(source: ByteSource, start: number, piece: number): Slot {
    const left = source.size === undefined ? piece : source.size - start;
    if (left >= piece) return Slot.large(piece);
    return new Slot(0, PAGE + Math.max(PAGE, left));
  }

  /** Where the byte at that position of a source goes. */
  place(position: number): number {
    return this.head + (position % PAGE);
  }
}

interface Reading {
  readonly position: number;
  readonly length: number;
  readonly slot: Slot;
  readonly count: Promise<number>;
}

export interface Piece {
  readonly slot: Slot;
  /** Where its bytes begin in the slot, and how many there are: 0 at the end of the source. */
  readonly at: number;
  readonly count: number;
}

/**
 * Reads pieces of a source one after another. Where reads of a source may overlap, the next ones are
 * under way while one is decoded, so that the device, or the copy out of the page cache, works at
 * the same time.
 */
export class ReadAhead {
  readonly #readings: Reading[] = [];
  readonly #free: Slot[] = [];
  #made = 0;

  constructor(
    readonly source: ByteSource,
    readonly piece: number,
  ) {}

  /** Whether the piece at that position is being read already. */
  expects(position: number): boolean {
    return this.#readings[0]?.position === position;
  }

  /** The piece at that position; its slot is the caller's until it is released. */
  async take(position: number, signal: AbortSignal | undefined): Promise<Piece> {
    if (!this.expects(position)) {
      this.drop();
      this.#begin(position);
    }
    const reading = this.#readings.shift() as Reading;
    const { slot, length } = reading;
    if (this.source.concurrent) {
      let next = position + length;
      for (const { length } of this.#readings) next += length;
      const { size = 0 } = this.source;
      while (this.#readings.length < DEPTH && next < size && this.#hasRoom) {
        next += this.#begin(next);
      }
    }
    let count: number;
    try {
      count = await abortable(reading.count, signal);
    } catch (error) {
      this.#releaseLater(reading);
      throw error;
    }
    // What follows is elsewhere then than where it is being read.
    if (count < length) this.drop();
    return { slot, at: slot.place(position), count };
  }

  release(slot: Slot): void {
    if (slot.head > 0) this.#free.push(slot);
  }

  /** Forgets what is being read: the source goes on elsewhere. */
  drop(): void {
    for (const reading of this.#readings.splice(0)) this.#releaseLater(reading);
  }

  /** What is being read into it goes on. */
  #releaseLater({ slot, count }: Reading): void {
    const done = (): void => this.release(slot);
    count.then(done, done);
  }

  /** Not while as many slots as that takes wait for reads that nobody wants any more. */
  get #hasRoom(): boolean {
    return this.#free.length > 0 || this.#made <= DEPTH;
  }

  #make(): Slot {
    this.#made++;
    return Slot.large(this.piece);
  }

  #begin(position: number): number {
    const slot = this.#free.pop() ?? this.#make();
    const at = slot.place(position);
    const { size } = this.source;
    const left = size === undefined || size <= position ? this.piece : size - position;
    const length = Math.min(slot.limit - at, left);
    const count = this.source.read(slot.bytes.subarray(at, at + length), position);
    // Nobody may ask for it any more.
    count.catch(() => undefined);
    this.#readings.push({ position, length, slot, count });
    return length;
  }
}
