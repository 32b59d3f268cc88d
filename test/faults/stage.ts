import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AtomicFile } from '../../src/bytes/output.js';
import type { Scene } from './scenes.js';
import { type Fault, runShimmed, type ShimmedRun } from './shim.js';

const OLD = Buffer.from('what was there before');

/** How a run ended that did nothing wrong. */
export type Outcome = 'done' | 'refused' | 'killed';

export interface Tried {
  readonly run: ShimmedRun;
  readonly outcome: Outcome;
  /** Everything that was wrong; nothing, if all is well. */
  readonly wrong: readonly string[];
}

/** A scene in a folder of its own, put up anew for each run. */
export class Stage {
  /** What the command makes when nothing fails. */
  #whole: Buffer | undefined;
  readonly #files: ReadonlyMap<string, Uint8Array>;

  constructor(
    readonly scene: Scene,
    readonly folder: string,
    readonly shim: string,
    readonly addon: boolean,
  ) {
    this.#files = new Map(Object.entries(scene.files).map(([name, make]) => [name, make()]));
  }

  get #output(): string {
    return join(this.folder, this.scene.output);
  }

  /** What stands under the output's name before the run. */
  get #old(): Uint8Array | undefined {
    const input = this.#files.get(this.scene.output);
    return input ?? (this.scene.replaces ? OLD : undefined);
  }

  #put(): void {
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(this.folder, { recursive: true });
    for (const [name, bytes] of this.#files) writeFileSync(join(this.folder, name), bytes);
    if (this.#old !== undefined) writeFileSync(this.#output, this.#old);
  }

  #run(fault?: Fault, strace?: string): Promise<ShimmedRun> {
    const { scene, folder, shim } = this;
    const args = scene.args.map((arg) => {
      if (arg === 'OUTPUT') return this.#output;
      return this.#files.has(arg) ? join(folder, arg) : arg;
    });
    const htab = scene.htab === undefined ? undefined : join(folder, scene.htab);
    const env = this.addon ? {} : { SPAPR_HTAB_NO_ADDON: '1' };
    return runShimmed(args, { shim, folder, fault, htab, env, strace });
  }

  /** Without a fault: what it does then. @throws Error when it fails */
  async rehearse(strace?: string): Promise<ShimmedRun> {
    this.#put();
    const run = await this.#run(undefined, strace);
    if (run.code !== 0) throw new Error(`${this.scene.name} fails by itself: ${run.stderr}`);
    this.#whole = readFileSync(this.#output);
    return run;
  }

  /** With a fault: whether everything is as it must be, then and after the next run. */
  async try(fault: Fault): Promise<Tried> {
    this.#put();
    const run = await this.#run(fault);
    const outcome = run.signal !== null ? 'killed' : run.code === 0 ? 'done' : 'refused';
    const wrong = [...this.#faultsOfEnd(run, fault), ...this.#faultsOfFiles(run, outcome)];
    const hit = run.operations.find((operation) => operation.hit);
    // Nothing that is hit by every error can be removed, nor what was not when that failed.
    const cleans = outcome !== 'killed' && !fault.always && hit?.name !== 'unlink';
    if (cleans && this.#temporaries().length > 0) wrong.push('a temporary file is left');
    // As every run for this output begins.
    await (await AtomicFile.create(this.#output, { force: true })).discard();
    if (this.#temporaries().length > 0) wrong.push('the next run did not clean up');
    return { run, outcome, wrong };
  }

  /**
   * A temporary copy in $TMPDIR that lost its race: it is unlinked before anything is written to it
   * (src/container/spool.ts), and where that fails, or is not reached, there is an empty file.
   */
  #isEmptyCopy(name: string): boolean {
    const copy = /^spapr-htab-[0-9a-f-]{36}$/.test(name);
    return copy && statSync(join(this.folder, name)).size === 0;
  }

  #temporaries(): string[] {
    const known = new Set([...this.#files.keys(), this.scene.output]);
    return readdirSync(this.folder).filter((name) => !known.has(name) && !this.#isEmptyCopy(name));
  }

  #faultsOfEnd({ code, signal, stderr, operations }: ShimmedRun, { how }: Fault): string[] {
    if (!operations.some(({ hit }) => hit)) return code === 0 ? [] : [`no fault, but code ${code}`];
    if (how === 'kill' || how === 'torn') return signal === 'SIGKILL' ? [] : ['not killed'];
    if (signal !== null) return [`signal ${signal}`];
    if (code === 0) return stderr === '' ? [] : [`done, but said: ${stderr}`];
    // What is no error, only less than was asked for, or later.
    if (how === 'short' || how === 'EINTR') return [`code ${code}: ${stderr}`];
    const wrong: string[] = [];
    if (code !== 1) wrong.push(`code ${code}`);
    if (!/^spapr-htab: .*\[E_(IO|HTAB_FD)\]\n$/.test(stderr)) wrong.push('no line of an IoError');
    if (!stderr.includes(how)) wrong.push(`${how} is not named`);
    return wrong.map((words) => `${words}: ${stderr}`);
  }

  #faultsOfFiles({ operations }: ShimmedRun, outcome: Outcome): string[] {
    const wrong: string[] = [];
    for (const [name, bytes] of this.#files) {
      if (name === this.scene.output) continue;
      if (!readFileSync(join(this.folder, name)).equals(bytes)) wrong.push(`${name} has changed`);
    }
    const committing = (name: string) => name === 'rename' || name === 'link';
    const moved = operations.some(({ name, hit }) => committing(name) && !hit);
    const state = this.#state();
    if (state === 'neither') wrong.push('the output is neither old nor whole');
    if (outcome === 'done' && state !== 'whole') wrong.push('done, but the output is not there');
    if (outcome === 'refused' && !moved && state !== 'old') wrong.push('failed, and replaced it');
    return wrong;
  }

  #state(): 'old' | 'whole' | 'neither' {
    const now = readdirSync(this.folder).includes(this.scene.output)
      ? readFileSync(this.#output)
      : undefined;
    if (now === undefined) return this.#old === undefined ? 'old' : 'neither';
    if (this.#whole !== undefined && now.equals(this.#whole)) return 'whole';
    return this.#old !== undefined && now.equals(this.#old) ? 'old' : 'neither';
  }
}
