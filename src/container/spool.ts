import { randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readUpTo } from '../bytes/read.js';
import type { OperationOptions } from '../bytes/reader.js';
import { type ByteSource, FileSource } from '../bytes/source.js';
import { writeSparse } from '../bytes/write.js';
import { ioError, throwIfAborted } from '../errors.js';
import { exceeded, limitsOf } from '../limits.js';

const PIECE = 1024 * 1024;

/**
 * Copies a source that can only be read forward into a temporary file, so that it can be read
 * anywhere, of at most `spoolBytes`. The file (mode 0600, in $TMPDIR or else the system's folder) is unlinked at once and is
 * gone when the returned source is closed. Positions stay the same.
 *
 * The given source belongs to the copy from the call on, and is closed when all is read or the call
 * fails. A source that is seekable already is returned as it is.
 *
 * @throws LimitError `E_LIMIT`; IoError; AbortedError; what the source throws
 */
export async function spool(
  source: ByteSource,
  options: OperationOptions = {},
): Promise<ByteSource> {
  if (source.seekable) return source;
  let handle: FileHandle | undefined;
  try {
    handle = await temporaryFile();
    const size = await copy(source, handle, options);
    await source.close();
    return new FileSource(source.name, handle, size);
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await source.close();
    throw error;
  }
}

async function temporaryFile(): Promise<FileHandle> {
  const path = join(tmpdir(), `spapr-htab-${randomUUID()}`);
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'wx+', 0o600);
    await unlink(path);
    return handle;
  } catch (error) {
    await handle?.close().catch(() => undefined);
    throw ioError(error, 'create the temporary file', path);
  }
}

async function copy(
  source: ByteSource,
  handle: FileHandle,
  options: OperationOptions,
): Promise<number> {
  const limits = limitsOf(options.limits);
  const piece = Buffer.allocUnsafeSlow(PIECE);
  let size = 0;
  for (;;) {
    throwIfAborted(options.signal);
    const count = await readUpTo(source, piece, size, options.signal);
    if (size + count > limits.spoolBytes) {
      const message = `${source.name} is too long for a temporary copy`;
      throw exceeded(limits, 'spoolBytes', message, { offset: limits.spoolBytes });
    }
    try {
      await writeSparse(handle, piece.subarray(0, count), size);
    } catch (error) {
      throw ioError(error, 'write the temporary copy of', source.name);
    }
    size += count;
    options.onProgress?.({ position: size, total: source.size });
    if (count < piece.length) break;
  }
  try {
    await handle.truncate(size);
  } catch (error) {
    throw ioError(error, 'write the temporary copy of', source.name);
  }
  return size;
}
