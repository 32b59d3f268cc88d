import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** One program with its files. */
export interface ProgramRun {
  readonly command: readonly string[];
  /** Standard input, from a byte on. Default: nothing. */
  readonly input?: { readonly path: string; readonly offset: number } | undefined;
  /** Where standard output goes. Default: nowhere. */
  readonly stdout?: string | undefined;
  /** The file that it writes: removed before each run. */
  readonly output?: string | undefined;
  /** Whether the output is synced within the time, as the commands of this package do themselves. */
  readonly sync?: boolean | undefined;
}

export interface Sample {
  /** From before the process is started to after its end. */
  readonly seconds: number;
  /** Largest resident set of the process or of one that it started. */
  readonly peakMiB: number;
}

/**
 * Runs a program once, under `reference/run.c`.
 * @throws Error when it fails, with what it said
 */
export async function measure(runner: string, run: ProgramRun): Promise<Sample> {
  const { command, input, stdout, output, sync } = run;
  if (output !== undefined) rmSync(output, { force: true });
  const args: string[] = [];
  if (input !== undefined) args.push('-i', input.path, '-s', String(input.offset));
  if (stdout !== undefined) args.push('-o', stdout);
  if (sync && output !== undefined) args.push('-f', output);
  const result = await execute(runner, [...args, '--', ...command]);
  const [seconds = Number.NaN, kib = Number.NaN, code] = result.stdout
    .trim()
    .split(' ')
    .map(Number);
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${result.stderr}`);
  return { seconds, peakMiB: kib / 1024 };
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
