/**
 * Every error that this package throws on purpose.
 *
 * One class per actor, so that a caller can tell whose fault it is; one stable `code` per cause,
 * each described in docs/errors.md. Wrong *data* is never a bare `Error`.
 */

import { printable } from './printable.js';

/** Stable error codes. docs/errors.md has a heading for each. */
export const ERROR_CODES = [
  'E_ABORTED',
  'E_AMBIGUOUS',
  'E_ARCHIVE',
  'E_BLOCK',
  'E_BLOCK_RANGE',
  'E_CHECKSUM',
  'E_COLLISION',
  'E_COMPRESSED',
  'E_CONFIGURATION',
  'E_CONTAINER',
  'E_ELEMENT',
  'E_EXISTS',
  'E_FOOTER',
  'E_HPTE',
  'E_HTAB_FD',
  'E_IMAGE_SIZE',
  'E_IO',
  'E_LIMIT',
  'E_MAGIC',
  'E_NATIVE',
  'E_NOT_HTAB_FD',
  'E_NOT_SEEKABLE',
  'E_NO_HPT',
  'E_NO_HTAB_FD',
  'E_NO_SECTION',
  'E_ORDER',
  'E_ORDER_REQUIRED',
  'E_PASS',
  'E_PLACEMENT',
  'E_PROGRAM_MISSING',
  'E_RAM',
  'E_SECTION',
  'E_SECTION_LENGTH',
  'E_SNAPSHOT',
  'E_TRUNCATED',
  'E_UNSUPPORTED',
  'E_USAGE',
  'E_VERSION',
  'E_VMDESC',
  'E_VMSTATE',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Facts about an error, for programs; the message says the same for people. */
export interface ErrorDetails {
  /** Byte offset in the file or stream where the offending field begins. */
  readonly offset?: number | undefined;
  /** Where in the format it is, outermost first: `ram (section 2) / PAGE`. */
  readonly path?: string | undefined;
  readonly expected?: string | undefined;
  readonly actual?: string | undefined;
  readonly cause?: unknown;
}

/** Base class of all errors of this package. */
export abstract class SpaprHtabError extends Error {
  readonly code: ErrorCode;
  readonly offset: number | undefined;
  readonly path: string | undefined;
  readonly expected: string | undefined;
  readonly actual: string | undefined;
  /** The message without the details. */
  readonly #words: string;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(compose(message, details), details.cause === undefined ? {} : { cause: details.cause });
    this.code = code;
    this.#words = message;
    this.offset = details.offset;
    this.path = details.path;
    this.expected = details.expected;
    this.actual = details.actual;
  }

  /** The same error, saying first what it is about: for work that has several inputs. */
  about(what: string): SpaprHtabError {
    const again = this.constructor as new (
      code: ErrorCode,
      message: string,
      details: ErrorDetails,
      self: SpaprHtabError,
    ) => SpaprHtabError;
    const { offset, path, expected, actual, cause } = this;
    const message = `${what}: ${this.#words}`;
    // Itself too: a class that knows more takes that from there.
    return new again(this.code, message, { offset, path, expected, actual, cause }, this);
  }

  /** Plain object for `--json` output and logs. */
  toJSON(): Record<string, unknown> {
    return {
      name: this.name,
      code: this.code,
      message: this.message,
      offset: this.offset,
      path: this.path,
      expected: this.expected,
      actual: this.actual,
    };
  }
}

/** Names that a file gives are in it, and it may go to a terminal by any way. */
function compose(message: string, d: ErrorDetails): string {
  let text = d.path === undefined ? message : `${d.path}: ${message}`;
  if (d.expected !== undefined) text += `; expected ${d.expected}`;
  if (d.actual !== undefined) text += `${d.expected === undefined ? ';' : ','} got ${d.actual}`;
  if (d.offset !== undefined) text += ` (at byte ${d.offset})`;
  return printable(text);
}

/** The machine failed: a file could not be read, written, created or renamed. */
export class IoError extends SpaprHtabError {
  override readonly name = 'IoError';
}

/** The input is malformed. Carries `offset` wherever a place can be named. */
export class FormatError extends SpaprHtabError {
  override readonly name = 'FormatError';
}

/** The input is valid, as far as can be told, but this package does not support it. */
export class UnsupportedError extends SpaprHtabError {
  override readonly name = 'UnsupportedError';
}

/** The caller asked for something that makes no sense, or left out something that is needed. */
export class UsageError extends SpaprHtabError {
  override readonly name = 'UsageError';
}

/** Which limit was exceeded. */
export interface LimitDetails extends ErrorDetails {
  /** Its name in `limits`; undefined for a number that nothing can raise. */
  readonly limit?: string | undefined;
  /** Its value. */
  readonly value?: number | undefined;
}

/** The input exceeds a limit that protects the host process. */
export class LimitError extends SpaprHtabError {
  override readonly name = 'LimitError';
  /** Name of the limit, as `limits` and `--limit` have it; undefined where nothing can raise it. */
  readonly limit: string | undefined;
  /** The value that it had. */
  readonly value: number | undefined;

  constructor(code: ErrorCode, message: string, details: LimitDetails = {}, self?: LimitError) {
    super(code, message, details);
    this.limit = details.limit ?? self?.limit;
    this.value = details.value ?? self?.value;
  }

  override toJSON(): Record<string, unknown> {
    return { ...super.toJSON(), limit: this.limit, value: this.value };
  }
}

/** The caller's AbortSignal fired. `cause` is the signal's reason. */
export class AbortedError extends SpaprHtabError {
  override readonly name = 'AbortedError';
}

/** @throws AbortedError when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new AbortedError('E_ABORTED', 'the operation was aborted', { cause: signal.reason });
  }
}

/** Turns what Node's fs throws into an IoError that names the file and says what failed. */
export function ioError(error: unknown, doing: string, file: string): SpaprHtabError {
  if (error instanceof SpaprHtabError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  const reason = error instanceof Error ? error.message : String(error);
  const words = code === undefined ? reason : (ERRNO_WORDS[code] ?? reason);
  return new IoError('E_IO', `cannot ${doing} ${file}: ${words}`, {
    actual: code,
    cause: error,
  });
}

const ERRNO_WORDS: Record<string, string> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of its path is not a directory',
  ENOSPC: 'no space left on the device; free some, or write elsewhere',
  EDQUOT: 'disk quota exceeded; free some, or write elsewhere',
  EFBIG: 'the file would be larger than the file system allows',
  EROFS: 'the file system is read-only; write elsewhere',
  EIO: 'input/output error of the device; the log of the system may say more',
  ESTALE: 'the file was removed or replaced on its server; run again',
  EMFILE: 'too many open files',
  ELOOP: 'it is a symbolic link, which is not followed here',
  EPIPE: 'the reader closed the pipe',
};
