import { FormatError } from '../errors.js';
import { abortable } from './abort.js';
import type { ByteSource } from './source.js';

/** Reads until `target` is full or the source ends; resolves to how many bytes were read. */
export async function readUpTo(
  source: ByteSource,
  target: Uint8Array,
  position: number,
  signal?: AbortSignal,
): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const reading = source.read(target.subarray(done), position + done);
    const count = await abortable(reading, signal);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/**
 * Fills `target` from `position`.
 * @throws FormatError `E_TRUNCATED` naming `what` when the source ends before that.
 */
export async function readFully(
  source: ByteSource,
  target: Uint8Array,
  position: number,
  what: string,
  path?: string,
): Promise<void> {
  // Behind its end nothing is asked for: a position from a file may be one that no system takes.
  const size = source.size ?? Number.POSITIVE_INFINITY;
  const count = position < size ? await readUpTo(source, target, position) : 0;
  if (count === target.length) return;
  throw new FormatError('E_TRUNCATED', `the file ends inside ${what}`, {
    offset: Math.min(position + count, size),
    path,
    expected: `${target.length} bytes from ${position}`,
    actual: String(count),
  });
}

/**
 * Reads `length` bytes, which the caller has checked against a limit of its own; nothing is
 * allocated for bytes that a source of known size does not have.
 * @throws FormatError `E_TRUNCATED`; RangeError for what is no length
 */
export async function readExactly(
  source: ByteSource,
  position: number,
  length: number,
  what: string,
  path?: string,
): Promise<Buffer<ArrayBuffer>> {
  if (!Number.isSafeInteger(length) || length < 0) throw new RangeError(`${length} is no length`);
  if (source.size !== undefined && position + length > source.size) {
    throw new FormatError('E_TRUNCATED', `the file ends inside ${what}`, {
      offset: Math.min(position, source.size),
      path,
      expected: `${length} bytes from ${position}`,
      actual: `a file of ${source.size} bytes`,
    });
  }
  if (source.size !== undefined) {
    const target = Buffer.allocUnsafeSlow(length);
    await readFully(source, target, position, what, path);
    return target;
  }
  // The size is not known: memory grows with the bytes that are really there.
  const pieces: Buffer[] = [];
  for (let done = 0; done < length; ) {
    const piece = Buffer.allocUnsafeSlow(Math.min(length - done, 1024 * 1024));
    await readFully(source, piece, position + done, what, path);
    pieces.push(piece);
    done += piece.length;
  }
  return Buffer.concat(pieces);
}

/** All of a source, which may have no end: at most `limit` bytes, and one more where there are more. */
export async function readAtMost(
  source: ByteSource,
  limit: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (let length = 0; length <= limit; ) {
    const piece = Buffer.allocUnsafeSlow(Math.min(limit + 1 - length, 1024 * 1024));
    const count = await readUpTo(source, piece, length, signal);
    pieces.push(piece.subarray(0, count));
    if (count < piece.length) break;
    length += count;
  }
  return Buffer.concat(pieces);
}
