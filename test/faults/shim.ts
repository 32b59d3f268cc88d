import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('shim.c', import.meta.url));
export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** What happens to which operation; see shim.c. */
export interface Fault {
  /** Number of the operation, from 1, of those that `on` names. */
  readonly at: number;
  /** Name of an errno, or `short`, `kill`, `torn`. */
  readonly how: string;
  /** Operations that are numbered. Default: all. */
  readonly on?: readonly string[] | undefined;
  /** All from `at` on. Default false. */
  readonly always?: boolean | undefined;
}

export interface Operation {
  /** Undefined where it was not numbered. */
  readonly number: number | undefined;
  readonly hit: boolean;
  readonly name: string;
  readonly path: string;
  readonly details: string;
}

export interface ShimmedRun {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Those on files beneath the folder, in the order in which they began. */
  readonly operations: readonly Operation[];
}

/**
 * Compiles the library that makes operations on files fail; its path. Undefined where it cannot be: on other systems.
 * @throws Error where there is no C compiler, or it finds fault
 */
export function compileShim(folder: string): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const path = join(folder, 'shim.so');
  const flags = ['-std=gnu11', '-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC'];
  execFileSync(process.env.CC ?? 'cc', [...flags, '-o', path, SOURCE, '-ldl'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return path;
}

export interface ShimmedOptions {
  /** The library. */
  readonly shim: string;
  /** Whose files are watched. Temporary copies are made there, too. */
  readonly folder: string;
  readonly fault?: Fault | undefined;
  /** A file beneath the folder that the command has open as number 3, and takes for an HTAB fd. */
  readonly htab?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** A file that strace is to write: what the kernel was asked for. */
  readonly strace?: string | undefined;
}

/** Runs the command as a user would, with its files watched. */
export async function runShimmed(
  args: readonly string[],
  { shim, folder, fault, htab, env, strace }: ShimmedOptions,
): Promise<ShimmedRun> {
  const log = `${folder}.log`;
  rmSync(log, { force: true });
  const third = htab === undefined ? undefined : openSync(htab, 'r');
  const variables = {
    LD_PRELOAD: shim,
    FAULTS_FOLDER: folder,
    FAULTS_LOG: log,
    FAULTS_HTAB: htab ?? '',
    FAULTS_ON: fault?.on === undefined ? '' : `,${fault.on.join()},`,
    FAULTS_AT: `${fault?.at ?? 0}`,
    FAULTS_HOW: fault?.how ?? '',
    FAULTS_ALWAYS: fault?.always ? '1' : '',
  };
  const command = [process.execPath, MAIN, ...args];
  // It is not preloaded itself, then.
  const given = Object.entries(variables).flatMap(([name, value]) => ['-E', `${name}=${value}`]);
  const tracing = ['strace', '-f', '-y', '-qq', '-o', strace ?? '', ...given, ...command];
  const [program = '', ...rest] = strace === undefined ? command : tracing;
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe', third ?? 'ignore'],
    env: { ...process.env, ...env, TMPDIR: folder, ...(strace === undefined && variables) },
  });
  if (third !== undefined) closeSync(third);
  const [stdout, stderr, ended] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve([code, signal]));
    }),
  ]);
  const [code, signal] = ended;
  return { code, signal, stdout, stderr, operations: parse(log) };
}

async function textOf(stream: AsyncIterable<Buffer> | null): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of stream ?? []) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

function parse(log: string): Operation[] {
  if (!existsSync(log)) throw new Error('the shim was not loaded');
  const lines = readFileSync(log, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const [number, outcome, name = '', path = '', details = ''] = line.split('\t');
    const numbered = number === '-' ? undefined : Number(number);
    return { number: numbered, hit: outcome === 'hit', name, path, details };
  });
}
