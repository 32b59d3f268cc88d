import { lowerBound } from '../../htab/lower-bound.js';
import { HPTE_BYTES } from '../../htab/order.js';

const INITIAL = 4;
/** Bytes of an item. */
const ITEM_BYTES = HPTE_BYTES + 3;
/** Bytes of a page beside its items: four objects, and its place among the others. */
const PAGE_BYTES = 768;

/** Bits of the state byte of a slot. One that is set makes the slot "dirty" (hpte_dirty). */
export const MODIFIED = 1;
/** The processor set R in the HPTE, and the guest's own doubleword does not have it yet. */
export const NEW_R = 2;
/** Likewise C. */
export const NEW_C = 4;

/** Flags in the last byte of DW0: V, and KVM's "there is an entry, but no host page for it". */
export const VALID = 0x01;
export const ABSENT = 0x20;
export const OCCUPIED = VALID | ABSENT;

/**
 * The slots of one stretch of a table of which there is something to say, packed in ascending
 * order: an entry, or the mark that a slot was modified, which an empty slot can have too.
 *
 * An item is 16 bytes (DW0 as KVM keeps it, with V or ABSENT; DW1 as the guest gave it, which KVM
 * keeps in `guest_rpte`) and a state byte. An item with neither entry nor state is dead: as if it
 * were not there. Slots are numbers within the page, below 65536.
 */
export class SlotPage {
  #slots = new Uint16Array(INITIAL);
  #bytes = new Uint8Array(INITIAL * HPTE_BYTES);
  #states = new Uint8Array(INITIAL);
  #count = 0;
  #dirty = 0;

  constructor(
    /** Slot of the table at which the page begins. */
    readonly first: number,
    /** Told before memory is taken, how many bytes more; it may refuse with an error. */
    private readonly take: (bytes: number) => void = () => {},
  ) {
    take(this.memory);
  }

  /** Bytes that it takes. */
  get memory(): number {
    return PAGE_BYTES + this.#slots.length * ITEM_BYTES;
  }

  /** Number of items. */
  get count(): number {
    return this.#count;
  }

  /** Number of items whose state is not 0. */
  get dirty(): number {
    return this.#dirty;
  }

  /** The items' bytes; item `i` begins at `16 * i`. They move when something is inserted. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  slotAt(i: number): number {
    return this.#slots[i] ?? 0;
  }

  stateAt(i: number): number {
    return this.#states[i] ?? 0;
  }

  setState(i: number, state: number): void {
    this.#dirty += Number(state !== 0) - Number(this.#states[i] !== 0);
    this.#states[i] = state;
  }

  /** The last byte of DW0. */
  flagsAt(i: number): number {
    return this.#bytes[i * HPTE_BYTES + 7] ?? 0;
  }

  #isDead(i: number): boolean {
    return this.#states[i] === 0 && (this.flagsAt(i) & OCCUPIED) === 0;
  }

  /** Position of the first item that is not below `slot`. */
  find(slot: number): number {
    return lowerBound(this.#slots, this.#count, slot);
  }

  /** Position of the item of a slot, which is made if there is none. */
  at(slot: number): number {
    let i = this.find(slot);
    if (i < this.#count && this.#slots[i] === slot) return i;
    if (this.#count === this.#slots.length) {
      this.compact();
      if (this.#count > this.#slots.length * 0.75) this.#grow();
      i = this.find(slot);
    }
    if (i < this.#count) {
      this.#slots.copyWithin(i + 1, i, this.#count);
      this.#states.copyWithin(i + 1, i, this.#count);
      this.#bytes.copyWithin((i + 1) * HPTE_BYTES, i * HPTE_BYTES, this.#count * HPTE_BYTES);
    }
    this.#slots[i] = slot;
    this.#states[i] = 0;
    this.#bytes.fill(0, i * HPTE_BYTES, (i + 1) * HPTE_BYTES);
    this.#count++;
    return i;
  }

  #grow(): void {
    const capacity = Math.ceil(this.#slots.length * 1.5);
    this.take((capacity - this.#slots.length) * ITEM_BYTES);
    const slots = new Uint16Array(capacity);
    slots.set(this.#slots);
    this.#slots = slots;
    const states = new Uint8Array(capacity);
    states.set(this.#states);
    this.#states = states;
    const bytes = new Uint8Array(capacity * HPTE_BYTES);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }

  /** Makes an item empty but for its state. */
  clear(i: number): void {
    this.#bytes.fill(0, i * HPTE_BYTES, (i + 1) * HPTE_BYTES);
  }

  /** Empties all entries. States stay, but for R and C, which go with their entry. */
  clearEntries(): void {
    this.#bytes.fill(0);
    for (let i = 0; i < this.#count; i++) this.setState(i, this.stateAt(i) & MODIFIED);
  }

  /** Drops dead items, so that positions change. */
  compact(): void {
    let to = 0;
    for (let i = 0; i < this.#count; i++) {
      if (this.#isDead(i)) continue;
      if (to !== i) {
        this.#slots[to] = this.#slots[i] ?? 0;
        this.#states[to] = this.#states[i] ?? 0;
        this.#bytes.copyWithin(to * HPTE_BYTES, i * HPTE_BYTES, (i + 1) * HPTE_BYTES);
      }
      to++;
    }
    this.#count = to;
  }
}
