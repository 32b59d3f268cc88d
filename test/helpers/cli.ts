import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { scratchFile } from './sources.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const PEAK = new URL('./peak.mjs', import.meta.url).href;

export interface CliResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** Largest resident set of the process in MiB. */
  readonly peakMiB: number;
}

/** Runs the command line as a user would: its own process, real files and pipes. */
export async function cli(
  args: readonly string[],
  input?: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<CliResult> {
  const peak = scratchFile('peak');
  const child = spawn(process.execPath, ['--import', PEAK, MAIN, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, SPAPR_HTAB_TEST_PEAK: peak },
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (piece: Buffer) => stdout.push(piece));
  child.stderr.on('data', (piece: Buffer) => stderr.push(piece));
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
  if (input === undefined) child.stdin.end();
  // A command that stops reading early closes the pipe; its exit code says why.
  else await pipeline(Readable.from(input), child.stdin).catch(() => undefined);
  const code = await closed;
  return {
    code,
    stdout: Buffer.concat(stdout),
    stderr: Buffer.concat(stderr).toString(),
    peakMiB: Number(readFileSync(peak, 'utf8')) / 1024,
  };
}
