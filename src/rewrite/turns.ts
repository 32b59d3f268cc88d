import type { OperationOptions, ProgressListener } from '../bytes/reader.js';

/**
 * Progress of several readings, one after another, as that of one: it never goes back. Where a
 * reading does not know its size, neither does the whole.
 */
export class Turns {
  readonly #listener: ProgressListener | undefined;
  #reached = 0;

  constructor({ onProgress }: OperationOptions) {
    this.#listener = onProgress;
  }

  /** The listener for the next reading. @param left how many there are from it on, itself included */
  begin(left: number): ProgressListener | undefined {
    const listener = this.#listener;
    if (listener === undefined) return undefined;
    const base = this.#reached;
    return ({ position, total }) => {
      const at = total === undefined ? position : Math.min(position, total);
      this.#reached = Math.max(this.#reached, base + at);
      const all = total === undefined ? undefined : base + left * total;
      listener({ position: this.#reached, total: all && Math.max(all, this.#reached) });
    };
  }
}
