import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ChildInput } from '../bytes/child-input.js';
import { ChildOutput } from '../bytes/child-output.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError, ioError, SpaprHtabError, UnsupportedError } from '../errors.js';
import { printable } from '../printable.js';

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
 * Starts a program that decompresses a source from `start` on. On Linux, with the addon, it writes
 * into a pipe of our own, and reads by itself what stands in a file, as libvirt has it do
 * (src/qemu/qemu_saveimage.c qemuSaveImageDecompressionStart, libvirt 11.3).
 *
 * @param feed gives the bytes where the program does not read them by itself
 * @throws UnsupportedError `E_PROGRAM_MISSING`; IoError when it cannot be started
 */
export async function pipeThrough(
  external: ExternalProgram,
  source: ByteSource,
  start: number,
  feed: () => AsyncGenerator<Uint8Array>,
): Promise<Piped> {
  const input = await ChildInput.open(source, start);
  const output = ChildOutput.open();
  const files = { stdin: input?.fd, stdout: output?.fd };
  const starting = spawnProgram(external, external.args, source.name, files);
  // The program has it by now: the output ends where the program does.
  output?.started();
  const { child, ended } = await starting.catch((error: unknown) => {
    input?.close();
    output?.destroy();
    throw error;
  });
  const complaint = collect(child.stderr);
  const feeder = child.stdin === null ? undefined : feedProgram(child, child.stdin, feed());

  const failure = (status: string, cause?: unknown): SpaprHtabError =>
    feeder?.error instanceof SpaprHtabError
      ? feeder.error
      : new FormatError(
          'E_COMPRESSED',
          `the ${external.program} data of ${source.name} cannot be decompressed`,
          {
            offset: start,
            actual: `${status}${complaint.text() === '' ? '' : `: ${complaint.text()}`}`,
            cause: feeder?.error ?? cause,
          },
        );
  return {
    output: output ?? (child.stdout as Readable),
    check: async () => {
      const status = await ended;
      await feeder?.fed;
      if (status === 'exit status 0' && feeder?.error === undefined) return;
      await input?.check();
      throw failure(status);
    },
    explain: (error) =>
      error instanceof SpaprHtabError ? error : failure('its output broke off', error),
    end: async () => {
      child.kill('SIGKILL');
      feeder?.end();
      output?.destroy();
      child.stdout?.destroy();
      child.stderr.destroy();
      // Not for the input: a pipe that nobody writes to would keep it waiting.
      await ended;
      input?.close();
    },
  };
}

interface Feeder {
  /** Resolves when no more is given; never rejects. */
  readonly fed: Promise<void>;
  /** Why the bytes could not be given. */
  readonly error: unknown;
  end(): void;
}

function feedProgram(
  child: ChildProcess,
  stdin: Writable,
  input: AsyncGenerator<Uint8Array>,
): Feeder {
  const feed = Readable.from(input);
  let error: unknown;
  const fed = pipeline(feed, stdin).catch((reason: unknown) => {
    // A program that ends early closes its input; its exit status says why.
    error = (reason as NodeJS.ErrnoException).code === 'EPIPE' ? undefined : reason;
    if (error !== undefined) child.kill('SIGKILL');
  });
  return {
    fed,
    get error() {
      return error;
    },
    end: () => {
      feed.destroy();
      stdin.destroy();
    },
  };
}

/** A program that runs. */
export interface Started<Child = ChildProcessWithoutNullStreams> {
  readonly child: Child;
  /** Resolves when it is gone and what it wrote into pipes of Node was taken; never rejects. */
  readonly ended: Promise<string>;
}

/** Starts a program between two pipes of Node; see {@link spawnProgram}. */
export function startProgram(
  external: ExternalProgram,
  args: readonly string[],
  name: string,
): Promise<Started> {
  return spawnProgram(external, args, name, {}) as Promise<Started>;
}

/** What is open for a program already, rather than a pipe of Node. */
interface ProgramFiles {
  readonly stdin?: number | undefined;
  readonly stdout?: number | undefined;
}

/**
 * Starts a program, without its own variables in its environment (XZ_OPT, LZOP and the like), so
 * that it does the same everywhere. It has its files when the call returns.
 * @param name what needs it, for messages
 * @throws UnsupportedError `E_PROGRAM_MISSING`; IoError when it cannot be started
 */
async function spawnProgram(
  { program, package: debianPackage }: ExternalProgram,
  args: readonly string[],
  name: string,
  { stdin, stdout }: ProgramFiles,
): Promise<Started<ChildProcess & { readonly stderr: Readable }>> {
  const child = spawn(program, args, {
    stdio: [stdin ?? 'pipe', stdout ?? 'pipe', 'pipe'],
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
    windowsHide: true,
  }) as ChildProcess & { readonly stderr: Readable };
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
