/** Work that can be done in pieces, each far below a millisecond: it yields where others may go first. */
export type Work<T> = Generator<void, T, void>;

/** Milliseconds of work after which the event loop gets its turn. */
const SLICE = 4;

interface Task {
  /** Does one piece. Whether that was the last. */
  step(): boolean;
  next: Task | undefined;
}

/**
 * Does work in the order in which it was given, one after another, within the call while there is
 * time. The time is that of all calls together: who awaits many short ones, one after another, does
 * not hold up timers and sockets either.
 */
export class Turns {
  #first: Task | undefined;
  #last: Task | undefined;
  #scheduled = false;
  #until = performance.now() + SLICE;

  run<T>(work: Work<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const step = (): boolean => {
        try {
          const { done, value } = work.next();
          if (done) resolve(value);
          return done === true;
        } catch (error) {
          reject(error);
          return true;
        }
      };
      const task: Task = { step, next: undefined };
      if (this.#last !== undefined) this.#last.next = task;
      this.#first ??= task;
      this.#last = task;
      this.#go();
    });
  }

  /** Does all that was given, without a pause: for calls that give their result at once. */
  finish(): void {
    while (this.#first !== undefined) this.#step(this.#first);
  }

  #step(task: Task): void {
    if (!task.step()) return;
    this.#first = task.next;
    if (this.#first === undefined) this.#last = undefined;
  }

  #go(): void {
    if (this.#scheduled) return;
    while (this.#first !== undefined) {
      if (performance.now() >= this.#until) {
        this.#pause();
        return;
      }
      this.#step(this.#first);
    }
  }

  #pause(): void {
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#until = performance.now() + SLICE;
      this.#go();
    });
  }
}
