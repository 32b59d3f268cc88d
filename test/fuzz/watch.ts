import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Finding, storeFinding } from './finding.js';
import type { Figures } from './fuzzer.js';
import type { Task, WorkerMessage } from './messages.js';

const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url));
const MIB = 1024 * 1024;
const POLL = 100;

export interface Limits {
  /** CPU time of one input, all its ways together, in seconds. */
  readonly cpuSeconds: number;
  /** The same with waiting: another process may have the machine meanwhile. */
  readonly wallSeconds: number;
  /** Heap of JavaScript, in MiB. */
  readonly heapMiB: number;
  /** Resident set of the process, in MiB. */
  readonly memoryMiB: number;
}

export const LIMITS: Limits = { cpuSeconds: 10, wallSeconds: 120, heapMiB: 320, memoryMiB: 640 };

export interface Found {
  readonly path: string | undefined;
  readonly finding: Finding;
}

/** What came of a task. */
export interface Watched {
  readonly figures: Figures | undefined;
  readonly found: readonly Found[];
  /** Whether it came to its end; otherwise the last finding says why not. */
  readonly ended: boolean;
}

/**
 * A worker process and who watches it: a task whose input takes too long or too much memory, or brings
 * the process down, is ended, and that input is a finding. The next task has a new process then.
 */
export class Watchdog implements AsyncDisposable {
  #child: ChildProcess | undefined;
  #stderr = '';
  readonly #scratch: string;

  constructor(
    readonly foundFolder: string,
    readonly limits: Limits = LIMITS,
  ) {
    // In memory where there is such a place: every input is written down.
    const place = process.platform === 'linux' ? '/dev/shm' : tmpdir();
    this.#scratch = mkdtempSync(join(place, 'spapr-htab-fuzz-'));
  }

  async run(task: Task): Promise<Watched> {
    const child = this.#child ?? (await this.#start());
    const found: Found[] = [];
    let figures: Figures | undefined;
    const end = await new Promise<{ done: boolean; invariant?: string; message?: string }>(
      (resolve) => {
        const watch = this.#watch(child, (invariant, message) => {
          child.kill('SIGKILL');
          finish({ done: false, invariant, message });
        });
        const finish = (result: { done: boolean; invariant?: string; message?: string }): void => {
          clearInterval(watch);
          child.removeAllListeners('message').removeAllListeners('exit');
          resolve(result);
        };
        child.on('message', (message: WorkerMessage) => {
          if (message.type === 'figures') figures = message.figures;
          if (message.type === 'finding') found.push(message);
          if (message.type === 'done') finish({ done: true });
          if (message.type === 'retired') {
            child.kill('SIGKILL');
            finish({ done: false });
          }
        });
        child.on('exit', (code, signal) => {
          const last = found.at(-1)?.finding.invariant;
          if (code === 0 && last === 'memory') return finish({ done: false });
          const message = `the process ended with ${signal ?? code}\n${this.#stderr.slice(-2000)}`;
          const heap = /heap out of memory|heap limit/.test(this.#stderr);
          finish({ done: false, invariant: heap ? 'memory' : 'crash', message });
        });
        child.send(task);
      },
    );
    if (end.done) return { figures, found, ended: true };
    this.#child = undefined;
    if (end.invariant !== undefined) found.push(this.#store(end.invariant, end.message ?? ''));
    return { figures, found, ended: false };
  }

  async #start(): Promise<ChildProcess> {
    const { heapMiB, memoryMiB } = this.limits;
    rmSync(this.#scratch, { recursive: true, force: true });
    const arguments_ = [this.#scratch, this.foundFolder, String(memoryMiB * MIB)];
    const child = fork(WORKER, arguments_, {
      execArgv: ['--import', 'tsx', `--max-old-space-size=${heapMiB}`, '--expose-gc'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#stderr = '';
    child.stderr?.on('data', (text: Buffer) => {
      this.#stderr = (this.#stderr + text.toString()).slice(-20_000);
    });
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('exit', (code) => reject(new Error(`no worker (${code}): ${this.#stderr}`)));
    });
    child.removeAllListeners('exit');
    this.#child = child;
    return child;
  }

  /** Looks again and again which input it is at, and what that has taken. */
  #watch(
    child: ChildProcess,
    tell: (invariant: string, message: string) => void,
  ): ReturnType<typeof setInterval> {
    const { cpuSeconds, wallSeconds, memoryMiB } = this.limits;
    let at = '';
    // Polls, not the clock: a machine that stands still for both of them is nobody's fault.
    let polls = 0;
    let cpu = cpuOf(child) ?? 0;
    return setInterval(() => {
      const now = this.#beat();
      polls++;
      if (now !== at) {
        at = now;
        polls = 0;
        cpu = cpuOf(child) ?? 0;
      }
      const waited = (polls * POLL) / 1000;
      const used = (cpuOf(child) ?? 0) - cpu;
      const memory = memoryOf(child) ?? 0;
      if (memory > memoryMiB * MIB) {
        tell('memory', `the process has ${Math.round(memory / MIB)} MiB`);
      } else if (used > cpuSeconds) {
        tell('hang', `it took ${used.toFixed(1)} s of CPU time and was not done`);
      } else if (waited > wallSeconds) {
        tell('hang', `nothing came of it for ${waited.toFixed(0)} s`);
      }
    }, POLL);
  }

  #beat(): string {
    try {
      return readFileSync(join(this.#scratch, 'beat')).toString('hex');
    } catch {
      return '';
    }
  }

  #store(invariant: string, message: string): Found {
    const bytes = readFileSync(join(this.#scratch, 'current.bin'));
    const text = readFileSync(join(this.#scratch, 'current.json'), 'utf8');
    const { parser, variant, valid } = JSON.parse(text) as Pick<
      Finding,
      'parser' | 'variant' | 'valid'
    >;
    const finding = { parser, variant, invariant, message, ...(valid && { valid }) };
    return { path: storeFinding(this.foundFolder, bytes, finding), finding };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child;
    if (child !== undefined) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

/** Linux counts in ticks of 10 ms, on every architecture that Node runs on. */
const TICKS = 100;

/** CPU time that a process has used, in seconds; undefined where that cannot be told. */
function cpuOf({ pid }: ChildProcess): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may have blanks.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  } catch {
    return undefined;
  }
}

/** Resident set in bytes. */
function memoryOf({ pid }: ChildProcess): number | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/VmRSS:\s*(\d+)/.exec(status)?.[1]) * 1024;
  } catch {
    return undefined;
  }
}
