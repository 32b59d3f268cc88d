import { readFile } from 'node:fs/promises';
import { loadAddon, type NativeFile } from '../addon/load.js';
import { fileBehind } from './file-behind.js';
import type { ByteSource, FileSource } from './source.js';

/** A file that a program reads by itself, as its standard input. */
export class ChildInput {
  private constructor(
    private readonly source: FileSource,
    private readonly file: NativeFile,
  ) {}

  /**
   * The bytes of a source from `start` to its end: of the file that they stand in, opened again,
   * so that nobody else moves its position or changes its flags (xz sets O_NONBLOCK). Undefined
   * where that cannot be done, and they must be fed: no file, one of which the end is left out, no
   * addon, no right to open the file again.
   */
  static async open(source: ByteSource, start: number): Promise<ChildInput | undefined> {
    const behind = fileBehind(source, start);
    const { child } = loadAddon().addon ?? {};
    if (behind === undefined || child === undefined) return undefined;
    const rest = (source.size ?? 0) - start;
    if (rest < behind.file.size - behind.from) return undefined;
    // Of a file that was closed, whoever feeds it is told.
    const reopened = behind.file.lend((fd) => child.reopen(fd, behind.from));
    const file = await reopened.then((result) => result.file).catch(() => undefined);
    return file === undefined ? undefined : new ChildInput(behind.file, file);
  }

  get fd(): number {
    return this.file.fd;
  }

  /**
   * To be called when the program failed, which does not tell a device that fails from data that is
   * damaged: reads on where the program stopped.
   * @throws IoError
   */
  async check(): Promise<void> {
    const state = await readFile(`/proc/self/fdinfo/${this.fd}`, 'latin1').catch(() => '');
    const position = /^pos:\s*(\d+)$/m.exec(state)?.[1];
    if (position === undefined) return;
    await this.source.read(Buffer.allocUnsafeSlow(1), Number(position));
  }

  /** May be called again. What the program has stays open. */
  close(): void {
    this.file.close();
  }
}
