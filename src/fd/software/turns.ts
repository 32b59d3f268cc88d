/** Work that can be done in pieces: it yields where others may go first. */
export type Work<T> = Generator<void, T, void>;

interface Task {
  /** Does one piece. Whether that was the last. */
  step(): boolean;
}

/**
 * Does work in the order in which it was given, one after another. What is short is done at once,
 * within the call; what is long is done in pieces, and the event loop goes on in between.
 */
export class Turns {
  readonly #waiting: Task[] = [];
  #scheduled = false;

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
      this.#waiting.push({ step });
      if (this.#waiting.length === 1) this.#go();
    });
  }

  /** Does all that was given, without a pause: for calls that give their result at once. */
  finish(): void {
    for (let task = this.#waiting[0]; task !== undefined; task = this.#waiting[0]) {
      if (task.step()) this.#waiting.shift();
    }
  }

  #go(): void {
    if (this.#scheduled) return;
    if (this.#waiting[0]?.step()) this.#waiting.shift();
    if (this.#waiting.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#go();
    });
  }
}
