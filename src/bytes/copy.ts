import { type Addon, type CopiedRange, loadAddon } from '../addon/load.js';
import { FormatError, ioError, throwIfAborted, UsageError } from '../errors.js';
import { type FileRange, fileBehind } from './file-behind.js';
import type { LentHandle } from './lend.js';
import { readUpTo } from './read.js';
import type { OperationOptions } from './reader.js';
import type { ByteSource, FileSource } from './source.js';
import { transferError } from './transferred.js';
import { writeFully, writeSparse } from './write.js';

/** Bytes that one call of the addon copies at most: how soon an abort is noticed. */
const STEP = 64 * 1024 * 1024;
/** Bytes that are read and written at a time where the addon does not copy. */
const PIECE = 1024 * 1024;
/** How much is copied before other work of the process gets a turn. */
const YIELD_BYTES = 64 * 1024 * 1024;

/** Where a copy goes. */
export interface CopyTarget {
  /** For messages. */
  readonly path: string;
  readonly file: LentHandle;
  /** Of the first byte. */
  readonly position: number;
  /** Whether nothing was ever written at or above `position`: zeros may then be left out. */
  readonly fresh: boolean;
}

type CopyRange = NonNullable<Addon['copyRange']>;

/**
 * Copies `length` bytes of a source, from `from` on. What is a hole in a file, or a block of zeros,
 * is left out of a fresh target, whose size is up to the caller. Where both are files and the file
 * system can, they share the blocks (Linux, with the addon).
 *
 * @throws FormatError `E_TRUNCATED` when the source ends within the range; UsageError `E_USAGE` for
 *   a range that no file can have; IoError; AbortedError; what the source throws
 */
export async function copyRange(
  source: ByteSource,
  from: number,
  length: number,
  target: CopyTarget,
  options: OperationOptions = {},
): Promise<void> {
  checkRange(from, length);
  checkRange(target.position, length);
  throwIfAborted(options.signal);
  if (source.size !== undefined && from + length > source.size) {
    throw endsEarly(source, from, length, Math.max(0, source.size - from));
  }
  const behind = fileBehind(source, from);
  const copy = target.fresh ? loadAddon().addon?.copyRange : undefined;
  if (behind !== undefined && copy !== undefined) {
    await copyFile(copy, source, behind, from, length, target, options);
  } else {
    await copyBytes(source, from, length, target, options);
  }
}

/** @throws UsageError `E_USAGE` */
export function checkRange(from: number, length: number): void {
  for (const value of [from, length, from + length]) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new UsageError('E_USAGE', `${length} bytes from ${from} are no range of a file`);
    }
  }
}

async function copyFile(
  copy: CopyRange,
  source: ByteSource,
  behind: FileRange,
  from: number,
  length: number,
  target: CopyTarget,
  { signal, onProgress }: OperationOptions,
): Promise<void> {
  for (let done = 0; done < length; ) {
    throwIfAborted(signal);
    const begin = behind.from + done;
    // Steps end where blocks do, so that only the first and the last have parts of blocks.
    const step = Math.min(length - done, STEP - (begin % STEP));
    const result = await lendBoth(behind.file, target, (inFd, outFd) =>
      copy(inFd, begin, outFd, target.position + done, step),
    );
    if (result.errno !== 0) throw transferError(result, source.name, target.path);
    done += result.copied;
    if (result.copied < step) throw endsEarly(source, from, length, done);
    onProgress?.({ position: from + done, total: source.size });
  }
}

async function lendBoth(
  file: FileSource,
  target: CopyTarget,
  use: (inFd: number, outFd: number) => Promise<CopiedRange>,
): Promise<CopiedRange> {
  const write = (inFd: number) => target.file.lend((outFd) => use(inFd, outFd));
  try {
    return await file.lend(write);
  } catch (error) {
    throw ioError(error, 'copy to', target.path);
  }
}

async function copyBytes(
  source: ByteSource,
  from: number,
  length: number,
  target: CopyTarget,
  { signal, onProgress }: OperationOptions,
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE, length));
  const write = target.fresh ? writeSparse : writeFully;
  let unyielded = 0;
  for (let done = 0; done < length; ) {
    throwIfAborted(signal);
    const position = target.position + done;
    // Pieces end where blocks of the output do, and are whole: only then are zeros a block.
    const piece = buffer.subarray(0, Math.min(length - done, PIECE - (position % PIECE)));
    const count = await readUpTo(source, piece, from + done, signal);
    try {
      await write(target.file.handle, piece.subarray(0, count), position);
    } catch (error) {
      throw ioError(error, 'write', target.path);
    }
    done += count;
    if (count < piece.length) throw endsEarly(source, from, length, done);
    onProgress?.({ position: from + done, total: source.size });
    // A source that waits for nothing, and zeros that are left out, would keep timers from running.
    unyielded += count;
    if (unyielded >= YIELD_BYTES) {
      unyielded = 0;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** The error for a source that has fewer bytes than it had. */
export function endsEarly(
  source: ByteSource,
  from: number,
  length: number,
  done: number,
): FormatError {
  return new FormatError('E_TRUNCATED', `${source.name} ends inside what is copied from it`, {
    offset: from + done,
    expected: `${length} bytes from ${from}`,
    actual: String(done),
  });
}
