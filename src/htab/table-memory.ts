import { exceeded, type LimitOptions, type Limits, limitsOf } from '../limits.js';

/** Counts the memory of one table against the limit `tableBytes`. */
export class TableMemory {
  #bytes = 0;
  readonly #limits: Limits;

  constructor(
    limits: LimitOptions | undefined,
    /** What takes it, for the message. */
    readonly what = 'the table',
  ) {
    this.#limits = limitsOf(limits);
  }

  /** Takes so many bytes more. @throws LimitError where that is too much; then none are taken */
  take(bytes: number): void {
    const taken = this.#bytes + bytes;
    if (taken > this.#limits.tableBytes) {
      throw exceeded(this.#limits, 'tableBytes', `${this.what} takes too much memory`);
    }
    this.#bytes = taken;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}
