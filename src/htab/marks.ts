import type { LimitOptions } from '../limits.js';
import { TableMemory } from './table-memory.js';

/** What a slot holds: bit 0 valid, bit 1 bolted. */
export const EMPTY = 0;
export const VALID = 1;
export const BOLTED = 3;

/** Slots of a leaf: few enough that a hostile file, with one entry in each, does not gain much. */
const LEAF_SLOTS = 256;
const LEAF_BYTES = LEAF_SLOTS / 4;
/** Leaves that a branch leads to; one chunk of memory has as many. */
const FAN = 4096;

/** Leaves next to each other in memory, whatever slots they are of. */
interface Chunk {
  /** Two bits a slot, four slots a byte. */
  readonly bits: Uint8Array;
  /** How many slots of each leaf are not empty. */
  readonly used: Uint16Array;
}

/**
 * Two bits for each slot of a table, in memory for those stretches only where something is: branches
 * of 2^20 slots lead to leaves of 256. What an entry costs is 66 bytes at worst, beside 64 MiB for
 * branches when they are spread over all of the slots that 32 bits can name.
 */
export class SlotMarks {
  /** Slots that are not empty, and those among them that are bolted. */
  valid = 0;
  bolted = 0;
  /** By number: for each leaf one more than its place, or 0. */
  readonly #branches = new Map<number, Int32Array>();
  readonly #chunks: Chunk[] = [];
  /** Places of leaves that nothing is in any more. */
  readonly #free: number[] = [];
  /** Leaves that were made. */
  #leaves = 0;
  readonly #memory: TableMemory;
  /** The leaf that was marked last, as the next entry is mostly in the same: number and place. */
  #number = -1;
  #place = 0;
  /** The branch that was used last. */
  #branchNumber = -1;
  #branch: Int32Array | undefined;

  constructor(limits?: LimitOptions) {
    this.#memory = new TableMemory(limits, 'the count of the table');
  }

  /** @throws LimitError when that takes too much memory */
  mark(slot: number, state: number): void {
    const number = Math.floor(slot / LEAF_SLOTS);
    if (number !== this.#number) {
      this.#number = number;
      this.#place = this.#branchOf(number)?.[number % FAN] ?? 0;
    }
    if (this.#place === 0) {
      if (state === EMPTY) return;
      this.#place = this.#newLeaf(number);
    }
    this.#set(this.#place - 1, slot % LEAF_SLOTS, state);
  }

  #set(place: number, slot: number, state: number): void {
    const chunk = this.#chunks[Math.floor(place / FAN)];
    if (chunk === undefined) return;
    const leaf = place % FAN;
    const at = leaf * LEAF_BYTES + (slot >> 2);
    const shift = (slot & 3) * 2;
    const byte = chunk.bits[at] ?? 0;
    const before = (byte >> shift) & 3;
    if (before === state) return;
    this.valid += (state & 1) - (before & 1);
    this.bolted += (state >> 1) - (before >> 1);
    chunk.bits[at] = byte ^ ((before ^ state) << shift);
    if (before === EMPTY) chunk.used[leaf] = (chunk.used[leaf] ?? 0) + 1;
    else if (state === EMPTY) chunk.used[leaf] = (chunk.used[leaf] ?? 0) - 1;
  }

  /** Empties `count` slots from `slot` on. */
  clear(slot: number, count: number): void {
    const end = slot + count;
    for (let at = slot; at < end; ) {
      const number = Math.floor(at / LEAF_SLOTS);
      const branch = this.#branchOf(number);
      // Up to the end of the branch, or of the leaf.
      const whole = branch === undefined ? LEAF_SLOTS * FAN : LEAF_SLOTS;
      const stop = Math.min(end, (Math.floor(at / whole) + 1) * whole);
      const place = branch?.[number % FAN] ?? 0;
      if (branch !== undefined && place > 0) this.#clearIn(branch, number, place - 1, at, stop);
      at = stop;
    }
  }

  #clearIn(branch: Int32Array, number: number, place: number, from: number, to: number): void {
    const chunk = this.#chunks[Math.floor(place / FAN)];
    if (chunk === undefined) return;
    const leaf = place % FAN;
    const first = number * LEAF_SLOTS;
    for (let at = from; at < to && chunk.used[leaf] !== 0; ) {
      const slot = at - first;
      // Four empty slots at once.
      const empty = slot % 4 === 0 && chunk.bits[leaf * LEAF_BYTES + (slot >> 2)] === 0;
      if (!empty) this.#set(place, slot, EMPTY);
      at += empty ? 4 : 1;
    }
    if (chunk.used[leaf] !== 0) return;
    branch[number % FAN] = 0;
    this.#free.push(place);
    if (number === this.#number) this.#place = 0;
  }

  #branchOf(number: number): Int32Array | undefined {
    const branchNumber = Math.floor(number / FAN);
    if (branchNumber !== this.#branchNumber) {
      this.#branchNumber = branchNumber;
      this.#branch = this.#branches.get(branchNumber);
    }
    return this.#branch;
  }

  #newLeaf(number: number): number {
    let branch = this.#branchOf(number);
    if (branch === undefined) {
      this.#memory.take(FAN * Int32Array.BYTES_PER_ELEMENT);
      branch = new Int32Array(FAN);
      this.#branch = branch;
      this.#branches.set(this.#branchNumber, branch);
    }
    const place = this.#free.pop() ?? this.#leaves++;
    if (place === this.#chunks.length * FAN) {
      this.#memory.take(FAN * (LEAF_BYTES + Uint16Array.BYTES_PER_ELEMENT));
      this.#chunks.push({ bits: new Uint8Array(FAN * LEAF_BYTES), used: new Uint16Array(FAN) });
    }
    branch[number % FAN] = place + 1;
    return place + 1;
  }
}
