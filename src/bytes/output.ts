import { constants } from 'node:fs';
import {
  type FileHandle,
  link,
  lstat,
  open,
  readlink,
  rename,
  stat,
  unlink,
} from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { IoError, ioError, throwIfAborted, UsageError } from '../errors.js';
import { checkRange, copyRange } from './copy.js';
import { LentHandle } from './lend.js';
import { readHandle } from './read-handle.js';
import type { OperationOptions } from './reader.js';
import type { ByteSource } from './source.js';
import { removeStale, temporaryName } from './temporary.js';
import { writeFully } from './write.js';
import { WriteBehind } from './write-behind.js';

/** A file that can be read and written anywhere; unwritten ranges read as nothing or zeros. */
export interface RandomAccessFile {
  read(target: Uint8Array, position: number): Promise<number>;
  write(bytes: Uint8Array, position: number): Promise<void>;
  truncate(size: number): Promise<void>;
}

export interface OutputOptions {
  /**
   * Replace a file that exists. Default false: `E_EXISTS`. A symbolic link to a file is replaced
   * itself; one to anything else, or to nothing, is refused (`E_IO`), as all that is no file.
   */
  readonly force?: boolean | undefined;
}

/**
 * A file that appears whole or not at all: written beside the target under a temporary name with
 * mode 0600 (it holds a guest's secrets), synced, renamed, and the folder synced.
 *
 * A process that is killed leaves the temporary file behind; the next run for the same target
 * removes it (see {@link removeStale}).
 */
export class AtomicFile implements RandomAccessFile, AsyncDisposable {
  /** Where the next `append` goes, in bytes. */
  #position = 0;
  /** How long the file is to be, and above which position nothing was ever written, in bytes. */
  #size = 0;
  #written = 0;
  #state: 'open' | 'committed' | 'discarded' = 'open';
  readonly #file: LentHandle;
  readonly #behind: WriteBehind;

  private constructor(
    readonly path: string,
    readonly temporary: string,
    handle: FileHandle,
    readonly force: boolean,
    readonly signal: AbortSignal | undefined,
  ) {
    this.#file = new LentHandle(handle);
    this.#behind = new WriteBehind((bytes, position) => writeFully(handle, bytes, position));
  }

  /** @throws UsageError `E_EXISTS` unless `force`; IoError */
  static async create(
    path: string,
    options: OutputOptions & Pick<OperationOptions, 'signal'> = {},
  ): Promise<AtomicFile> {
    const { force = false, signal } = options;
    if (path === '' || path.endsWith('/')) {
      throw new UsageError('E_USAGE', `'${path}' is no name for a file`);
    }
    // First: what a killed run left goes, whether or not this one may go on.
    await removeStale(path);
    await refuseTarget(path, force);
    const temporary = await temporaryName(path);
    const flags =
      constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0);
    try {
      const handle = await open(temporary, flags, 0o600);
      return new AtomicFile(path, temporary, handle, force, signal);
    } catch (error) {
      throw ioError(error, 'create', path);
    }
  }

  get position(): number {
    return this.#position;
  }

  /** Goes on while the bytes are written: an error may come with a later call, or with `commit`. */
  async append(bytes: Uint8Array): Promise<void> {
    const position = this.#position;
    try {
      await this.#behind.append(bytes, position);
    } catch (error) {
      throw ioError(error, 'write', this.path);
    }
    this.#position += bytes.length;
    this.#extend(position, bytes.length);
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    await this.#flush();
    try {
      this.#written = Math.max(this.#written, position + bytes.length);
      await writeFully(this.#file.handle, bytes, position);
    } catch (error) {
      throw ioError(error, 'write', this.path);
    }
    this.#extend(position, bytes.length);
  }

  /** No byte, no place: a write of nothing beyond the end makes a file no longer. */
  #extend(position: number, length: number): void {
    if (length === 0) return;
    this.#written = Math.max(this.#written, position + length);
    this.#size = Math.max(this.#size, position + length);
  }

  async #flush(): Promise<void> {
    try {
      await this.#behind.flush();
    } catch (error) {
      throw ioError(error, 'write', this.path);
    }
  }

  /** Passes over so many bytes without writing them: they read as zeros. */
  async hole(length: number): Promise<void> {
    checkRange(this.#position, length);
    // What was written beyond the end, and is no part of the file, would show.
    if (this.#size <= this.#position && this.#position < this.#written) {
      await this.truncate(this.#position);
    }
    this.#position += length;
    this.#size = Math.max(this.#size, this.#position);
  }

  /**
   * Appends `length` bytes of a source, from `from` on. Holes of a file and blocks of zeros stay
   * holes; files that are on one file system share their blocks if it can (Btrfs, XFS; on Linux).
   * Progress is counted in the source. When it fails, the position stays, and what was written
   * beyond is no part of the file.
   *
   * @throws FormatError `E_TRUNCATED` when the source ends within the range; UsageError `E_USAGE`
   *   for a range that no file can have; IoError; AbortedError; what the source throws
   */
  async copy(
    source: ByteSource,
    from: number,
    length: number,
    options: OperationOptions = {},
  ): Promise<void> {
    await this.copyTo(this.#position, source, from, length, options);
    this.#position += length;
  }

  /**
   * Like {@link copy}, but to a position, and the one of `append` stays. Where the file was written
   * before, every byte of the range is written.
   */
  async copyTo(
    position: number,
    source: ByteSource,
    from: number,
    length: number,
    options: OperationOptions = {},
  ): Promise<void> {
    checkRange(position, length);
    const end = length === 0 ? 0 : position + length;
    const fresh = position >= this.#written;
    if (!fresh) await this.#flush();
    this.#written = Math.max(this.#written, end);
    const target = { path: this.path, file: this.#file, position, fresh };
    await copyRange(source, from, length, target, options);
    this.#size = Math.max(this.#size, end);
  }

  /**
   * Lets something else append: it gets the descriptor and the position, and resolves to how many
   * bytes it wrote there. What it wrote beyond them is no part of the file.
   * @throws IoError when the file is closed; what `write` throws
   * @internal
   */
  async appendBy(write: (fd: number, position: number) => Promise<number>): Promise<void> {
    const position = this.#position;
    this.#written = Number.MAX_SAFE_INTEGER;
    let count: number;
    try {
      count = await this.#file.lend((fd) => write(fd, position));
    } catch (error) {
      throw ioError(error, 'write', this.path);
    }
    this.#position += count;
    this.#extend(position, count);
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    await this.#flush();
    try {
      return await readHandle(this.#file.handle, target, position);
    } catch (error) {
      throw ioError(error, 'read back', this.path);
    }
  }

  async truncate(size: number): Promise<void> {
    await this.#flush();
    try {
      await this.#file.handle.truncate(size);
      this.#size = size;
      this.#written = Math.min(this.#written, size);
    } catch (error) {
      throw ioError(error, 'set the size of', this.path);
    }
  }

  /**
   * Makes the file appear under its name, as long as what was written, passed over or truncated
   * made it. When it fails, nothing is left; except that an error of the folder alone (the last
   * step) leaves the complete file.
   * @throws IoError; UsageError `E_EXISTS`; AbortedError when the signal has fired: what was written
   *   last may be what was aborted
   */
  async commit(): Promise<void> {
    if (this.#state !== 'open') {
      throw new UsageError('E_USAGE', `${this.path} is ${this.#state} already`);
    }
    try {
      throwIfAborted(this.signal);
      const { handle } = this.#file;
      await this.#flush();
      await handle.truncate(this.#size);
      // Delayed allocation: that the device or the quota is full may show here, or at close (NFS).
      await handle.sync();
      await this.#file.close();
      if (this.force) await rename(this.temporary, this.path);
      else await this.#moveWithoutReplacing();
      this.#state = 'committed';
    } catch (error) {
      await this.discard();
      throw ioError(error, 'complete', this.path);
    }
    try {
      await syncFolder(dirname(this.path));
    } catch (error) {
      const what = `the folder of ${this.path} (the file is complete; a power cut may still undo that)`;
      throw ioError(error, 'sync', what);
    }
  }

  async #moveWithoutReplacing(): Promise<void> {
    try {
      await link(this.temporary, this.path);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      if (code === 'EEXIST') {
        // A network file system may answer so to a request that it got twice.
        if (!(await isSameFile(this.temporary, this.path))) throw exists(this.path);
      } else if (NO_LINKS.includes(code)) {
        // The check and the rename are two steps there.
        await refuseTarget(this.path, false);
        return rename(this.temporary, this.path);
      } else {
        throw error;
      }
    }
    // The file is there, whole. If its other name stays, the next run removes that.
    await unlink(this.temporary).catch(() => undefined);
  }

  /** Removes the temporary file unless the target was completed. Never throws. */
  async discard(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'discarded';
    await this.#file.close().catch(() => undefined);
    await unlink(this.temporary).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.discard();
  }
}

/** What link(2) says on file systems without hard links. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'EMLINK'];

async function isSameFile(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([a, b].map((path) => lstat(path, { bigint: true })));
  return one?.dev === other?.dev && one?.ino === other?.ino;
}

function exists(path: string): UsageError {
  return new UsageError('E_EXISTS', `${path} exists; replace it with --force`);
}

async function refuseTarget(path: string, force: boolean): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw ioError(error, 'create', path);
  });
  if (found === undefined) return;
  if (!force) throw exists(path);
  if (found.isFile()) return;
  const why = found.isSymbolicLink() ? await wrongLink(path) : IRREGULAR;
  if (why !== undefined) throw new IoError('E_IO', `cannot replace ${path}: it is ${why}`);
}

const IRREGULAR = 'not a regular file';

/**
 * Why a symbolic link is not to be replaced, as what stands in its place would be no better place
 * for the output: /dev/stdout is one, and a file system that is not mounted leaves others behind.
 */
async function wrongLink(path: string): Promise<string | undefined> {
  try {
    const to = resolve(dirname(path), await readlink(path));
    if (to.startsWith('/proc/'))
      return 'a symbolic link to an open file; use - for standard output';
    return (await stat(path)).isFile() ? undefined : `a symbolic link to what is ${IRREGULAR}`;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return `a symbolic link that leads nowhere (${code})`;
  }
}

async function syncFolder(path: string): Promise<void> {
  let folder: FileHandle | undefined;
  try {
    folder = await open(path, 'r');
    await folder.sync();
  } catch (error) {
    // Some file systems cannot sync a folder, and some folders may not be read; the rename itself
    // has happened.
    if (
      !['EINVAL', 'ENOTSUP', 'EACCES', 'EPERM'].includes(
        (error as NodeJS.ErrnoException).code ?? '',
      )
    )
      throw error;
  } finally {
    await folder?.close().catch(() => undefined);
  }
}
