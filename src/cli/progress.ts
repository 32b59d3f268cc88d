import type cliProgress from 'cli-progress';
import { size } from './text.js';

/** Work that is done sooner shows no bar. */
const QUIET_MS = 700;

/** A bar on stderr, when that is a terminal and the work is long. */
export class Progress {
  readonly #begun = Date.now();
  #bar: cliProgress.SingleBar | undefined;
  #loading = false;
  #stopped = false;

  update(position: number, total: number | undefined): void {
    if (!process.stderr.isTTY || Date.now() - this.#begun < QUIET_MS) return;
    if (!this.#loading) {
      this.#loading = true;
      void this.#start(total);
    }
    this.#bar?.update(position, { done: size(position) });
  }

  /** What draws it is loaded here: most work ends before it is due. */
  async #start(total: number | undefined): Promise<void> {
    const { default: cliProgress } = await import('cli-progress');
    if (this.#stopped) return;
    this.#bar = new cliProgress.SingleBar({
      stream: process.stderr,
      format:
        total === undefined ? '{done} read' : '{bar} {percentage}% {done} ETA {eta_formatted}',
      clearOnComplete: true,
    });
    this.#bar.start(total ?? 0, 0, { done: '' });
  }

  stop(): void {
    this.#stopped = true;
    this.#bar?.stop();
  }
}
