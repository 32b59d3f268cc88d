import { throwIfAborted } from '../errors.js';

/** Milliseconds of work after which the event loop gets its turn. */
const SLICE = 4;

/** Keeps long work in memory from holding up timers, sockets and the signal that should end it. */
export class Pace {
  readonly #signal: AbortSignal | undefined;
  #until = performance.now() + SLICE;

  /** @throws AbortedError when the signal has fired already */
  constructor(signal: AbortSignal | undefined) {
    throwIfAborted(signal);
    this.#signal = signal;
  }

  /** Whether it is time to pause. Asking costs little, but not nothing: ask once a page. */
  get due(): boolean {
    return performance.now() >= this.#until;
  }

  /** @throws AbortedError when the signal fired meanwhile */
  async pause(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    throwIfAborted(this.#signal);
    this.#until = performance.now() + SLICE;
  }
}

/**
 * Work that can pause: it yields every few milliseconds at least, and gives its result at the end. Whoever
 * has it decides if others get a turn meanwhile.
 */
export type Steps<T> = Generator<void, T, void>;

/** Does it without a pause. */
export function atOnce<T>(work: Steps<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

/**
 * Does it in turns with everything else.
 * @throws AbortedError when the signal fired; what the work throws
 */
export async function inTurns<T>(work: Steps<T>, signal: AbortSignal | undefined): Promise<T> {
  const pace = new Pace(signal);
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    if (pace.due) await pace.pause();
  }
}
