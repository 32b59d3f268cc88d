import { orderOfSlots } from './order.js';

/**
 * Finds out how large a table is that a first pass of the kernel covers: its blocks are contiguous
 * from slot 0 to the last one (kvm_htab_read). Later passes may follow; they begin when the index
 * goes back.
 */
export class Coverage {
  #next = 0;
  #state: 'first pass' | 'behind it' | 'no first pass' = 'first pass';

  add(index: number, nValid: number, nInvalid: number): void {
    if (this.#state !== 'first pass') return;
    if (index === this.#next) this.#next += nValid + nInvalid;
    else this.#state = index < this.#next ? 'behind it' : 'no first pass';
  }

  /** How many slots the first pass covers so far; undefined when it is none. */
  get slots(): number | undefined {
    return this.#state === 'no first pass' ? undefined : this.#next;
  }

  /** Whether no gap was seen so far. */
  get contiguous(): boolean {
    return this.#state !== 'no first pass' && this.#next > 0;
  }

  /** Order of the table; undefined unless all of it is covered, or when it has slots beyond u32. */
  get order(): number | undefined {
    if (!this.contiguous || this.#next === 2 ** 32) return undefined;
    return orderOfSlots(this.#next);
  }
}
