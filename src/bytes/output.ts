import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { IoError, ioError, UsageError } from '../errors.js';

/** A file that can be read and written anywhere; unwritten ranges read as nothing or zeros. */
export interface RandomAccessFile {
  read(target: Uint8Array, position: number): Promise<number>;
  write(bytes: Uint8Array, position: number): Promise<void>;
  truncate(size: number): Promise<void>;
}

export interface OutputOptions {
  /** Replace a file that exists. Default false: `E_EXISTS`. */
  readonly force?: boolean | undefined;
}

/**
 * A file that appears whole or not at all: written beside the target under a temporary name with
 * mode 0600 (it holds a guest's secrets), synced, renamed, and the folder synced.
 */
export class AtomicFile implements RandomAccessFile, AsyncDisposable {
  /** Where the next `append` goes, in bytes. */
  #position = 0;
  #state: 'open' | 'committed' | 'discarded' = 'open';

  private constructor(
    readonly path: string,
    readonly temporary: string,
    readonly handle: FileHandle,
    readonly force: boolean,
  ) {}

  /** @throws UsageError `E_EXISTS` unless `force`; IoError */
  static async create(path: string, options: OutputOptions = {}): Promise<AtomicFile> {
    const force = options.force ?? false;
    if (path === '' || path.endsWith('/')) {
      throw new UsageError('E_USAGE', `'${path}' is no name for a file`);
    }
    await refuseTarget(path, force);
    const temporary = join(
      dirname(path),
      `.${Buffer.from(basename(path)).subarray(0, 160).toString('latin1')}.${randomBytes(6).toString('hex')}.spapr-htab-tmp`,
    );
    const flags =
      constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0);
    try {
      const handle = await open(temporary, flags, 0o600);
      return new AtomicFile(path, temporary, handle, force);
    } catch (error) {
      throw ioError(error, 'create', path);
    }
  }

  get position(): number {
    return this.#position;
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.write(bytes, this.#position);
    this.#position += bytes.length;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    try {
      await writeFully(this.handle, bytes, position);
    } catch (error) {
      throw ioError(error, 'write', this.path);
    }
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    try {
      return (await this.handle.read(target, 0, target.length, position)).bytesRead;
    } catch (error) {
      throw ioError(error, 'read back', this.path);
    }
  }

  async truncate(size: number): Promise<void> {
    try {
      await this.handle.truncate(size);
    } catch (error) {
      throw ioError(error, 'set the size of', this.path);
    }
  }

  /** Makes the file appear under its name. @throws IoError; UsageError `E_EXISTS` */
  async commit(): Promise<void> {
    try {
      await this.handle.sync();
      await this.handle.close();
      if (this.force) await rename(this.temporary, this.path);
      else await this.#moveWithoutReplacing();
      this.#state = 'committed';
      await syncFolder(dirname(this.path));
    } catch (error) {
      throw ioError(error, 'complete', this.path);
    }
  }

  async #moveWithoutReplacing(): Promise<void> {
    try {
      await link(this.temporary, this.path);
      await unlink(this.temporary);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EEXIST') throw exists(this.path);
      // A file system without hard links: the check and the rename are two steps there.
      await refuseTarget(this.path, false);
      await rename(this.temporary, this.path);
    }
  }

  /** Removes the temporary file unless the target was completed. Never throws. */
  async discard(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'discarded';
    await this.handle.close().catch(() => undefined);
    await unlink(this.temporary).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.discard();
  }
}

function exists(path: string): UsageError {
  return new UsageError('E_EXISTS', `${path} exists; replace it with --force`);
}

async function refuseTarget(path: string, force: boolean): Promise<void> {
  const stat = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw ioError(error, 'create', path);
  });
  if (stat === undefined) return;
  if (!force) throw exists(path);
  if (!stat.isFile() && !stat.isSymbolicLink()) {
    throw new IoError('E_IO', `cannot replace ${path}: it is not a regular file`);
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
    await folder?.close();
  }
}

/** Writes all of it: one write(2) may take less. @throws what Node's fs throws */
export async function writeFully(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const left = bytes.length - done;
    done += (await handle.write(bytes, done, left, position + done)).bytesWritten;
  }
}
