import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { FormatError, ioError, SpaprHtabError, UnsupportedError } from '../errors.js';
import { printable } from './printable.js';

export type ExternalKind = 'bzip2' | 'xz' | 'zstd' | 'lzop' | 'lz4';

export interface ExternalProgram {
  readonly program: string;
  /** To decompress, and to compress. */
  readonly args: readonly string[];
  readonly compress: readonly string[];
  /** The Debian package that has it. */
  readonly package: string;
}

/**
 * The programs, from standard input to standard output, as libvirt calls them. Of xz alone the
 * memory is limited here: its format lets a file ask for 4 GiB (zstd's own limit is 128 MiB).
 */
export const EXTERNAL: Readonly<Record<ExternalKind, ExternalProgram>> = {
  bzip2: { program: 'bzip2', args: ['-dc'], compress: ['-c'], package: 'bzip2' },
  xz: {
    program: 'xz',
    args: ['-dc', '--memlimit-decompress=1GiB'],
    compress: ['-c', '-3'],
    package: 'xz-utils',
  },
  zstd: { program: 'zstd', args: ['-dcq'], compress: ['-cq'], package: 'zstd' },
  lzop: { program: 'lzop', args: ['-dc', '--ignore-warn'], compress: ['-c'], package: 'lzop' },
  lz4: { program: 'lz4', args: ['-dcq'], compress: ['-cq'], package: 'lz4' },
};

/** How much of what a program says on standard error is kept. */
const STDERR_LIMIT = 2048;

/** Bytes on their way through something that may fail. */
export interface Piped {
  readonly output: AsyncIterable<unknown>;
  /** To be called at the end of the output: throws when it is not the end of the data. */
  check(): Promise<void>;
  /** Turns what reading the output threw into an error that says why. */
  explain(error: unknown): SpaprHtabError;
  /** Ends everything, whatever its state; resolves when nothing is left of it. */
  end(): Promise<void>;
}

/**
 * Starts a program that decompresses `input`.
 *
 * @param start where the compressed data begins in its file, for errors: the program names no place
 * @throws UnsupportedError `E_PROGRAM_MISSING`; IoError when it cannot be started
 */
export async function pipeThrough(
  external: ExternalProgram,
  input: AsyncGenerator<Uint8Array>,
  name: string,
  start: number,
): Promise<Piped> {
  const { child, ended } = await startProgram(external, external.args, name);
  const complaint = collect(child.stderr);
  const feed = Readable.from(input);
  let feedError: unknown;
  const fed = pipeline(feed, child.stdin).catch((error: unknown) => {
    // A program that ends early closes its input; its exit status says why.
    feedError = (error as NodeJS.ErrnoException).code === 'EPIPE' ? undefined : error;
    if (feedError !== undefined) child.kill('SIGKILL');
  });

  const failure = (status: string, cause?: unknown): SpaprHtabError =>
    feedError instanceof SpaprHtabError
      ? feedError
      : new FormatError(
          'E_COMPRESSED',
          `the ${external.program} data of ${name} cannot be decompressed`,
          {
            offset: start,
            actual: `${status}${complaint.text() === '' ? '' : `: ${complaint.text()}`}`,
            cause: feedError ?? cause,
          },
        );
  return {
    output: child.stdout,
    check: async () => {
      const status = await ended;
      await fed;
      if (status !== 'exit status 0' || feedError !== undefined) throw failure(status);
    },
    explain: (error) =>
      error instanceof SpaprHtabError ? error : failure('its output broke off', error),
    end: async () => {
      child.kill('SIGKILL');
      feed.destroy();
      child.stdin.destroy();
      child.stdout.destroy();
      child.stderr.destroy();
      // Not for the input: a pipe that nobody writes to would keep it waiting.
      await ended;
    },
  };
}

/** A program that runs, between two pipes. */
export interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  /** Resolves when it is gone and its output was taken, to how it ended; never rejects. */
  readonly ended: Promise<string>;
}

/**
 * Starts a program, without its own variables in its environment (XZ_OPT, LZOP and the like), so
 * that it does the same everywhere.
 * @param name what needs it, for messages
 * @throws UnsupportedError `E_PROGRAM_MISSING`; IoError when it cannot be started
 */
export async function startProgram(
  { program, package: debianPackage }: ExternalProgram,
  args: readonly string[],
  name: string,
): Promise<Started> {
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
    windowsHide: true,
  });
  const ended = endOf(child);
  try {
    await once(child, 'spawn');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw ioError(error, 'start', program);
    throw new UnsupportedError(
      'E_PROGRAM_MISSING',
      `${name} needs the program '${program}', which is not installed; on Debian: apt-get install ${debianPackage}`,
      { cause: error },
    );
  }
  return { child, ended };
}

/** Resolves when the program is gone and its output was taken; never rejects. */
function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', () => resolve('not started'));
    child.once('close', (code, signal) => {
      resolve(code === null ? `ended by ${signal ?? 'a signal'}` : `exit status ${code}`);
    });
  });
}

/** Keeps the beginning of what is said, and reads the rest so that the program does not wait. */
export function collect(stream: Readable): { text(): string } {
  let kept = Buffer.alloc(0);
  stream.on('data', (bytes: Buffer) => {
    const room = STDERR_LIMIT - kept.length;
    if (room > 0) kept = Buffer.concat([kept, bytes.subarray(0, room)]);
  });
  stream.on('error', () => {});
  return { text: () => printable(kept.toString('utf8').trim().replace(/\s+/g, ' ')) };
}
