import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { FileWriter } from './file-writer.js';
import { requireSpace } from './space.js';

/** Files that cases read: made when the first one wants them, kept until they are cleared. */
export class InputStore {
  readonly #made = new Set<string>();

  constructor(
    readonly folder: string,
    readonly say: (what: string) => void = () => undefined,
  ) {
    mkdirSync(folder, { recursive: true });
  }

  /**
   * The file of that name, written by `write` unless it is there.
   * @param bytes how long it gets, about
   */
  make(name: string, bytes: number, write: (out: FileWriter) => void): string {
    const path = join(this.folder, name);
    if (this.#begin(path, bytes)) {
      const out = new FileWriter(path);
      write(out);
      out.close();
    }
    return path;
  }

  /** The file of that name: `head`, then what a program makes of another file. */
  async pipe(
    name: string,
    head: Uint8Array,
    [program = '', ...args]: readonly string[],
    from: string,
    bytes: number,
  ): Promise<string> {
    const path = join(this.folder, name);
    if (this.#begin(path, bytes)) {
      const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
      const out = createWriteStream(`${path}.part`, { mode: 0o600, flush: true });
      out.write(head);
      const [[code]] = await Promise.all([
        once(child, 'close'),
        pipeline(createReadStream(from, { highWaterMark: 1 << 20 }), child.stdin),
        pipeline(child.stdout, out),
      ]);
      if (code !== 0) throw new Error(`${program} ended with ${code}`);
      renameSync(`${path}.part`, path);
    }
    return path;
  }

  /** Whether the file is still to be made. */
  #begin(path: string, bytes: number): boolean {
    this.#made.add(path);
    if (existsSync(path)) return false;
    requireSpace(this.folder, bytes, 'an input');
    this.say(`making ${path}`);
    return true;
  }

  /** Removes what was made or used. */
  clear(): void {
    for (const path of this.#made) {
      rmSync(path, { force: true });
      rmSync(`${path}.part`, { force: true });
    }
    this.#made.clear();
  }
}
