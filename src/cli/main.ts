#!/usr/bin/env node
import { CommanderError } from 'commander';
import { program } from './program.js';

async function main(argv: readonly string[]): Promise<number> {
  const controller = new AbortController();
  let received = 0;
  for (const [name, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.once(name, () => {
      received = 128 + number;
      controller.abort(new Error(`received ${name}`));
    });
  }
  const json = argv.includes('--json');
  // What is printed may go into a pipe that closes, or onto a full disk; that is said once.
  let lost: Error | undefined;
  process.stdout.on('error', (error: Error) => {
    process.exitCode = 1;
    if (lost === undefined) void reportLost(error, json);
    lost ??= error;
  });
  try {
    await program(controller.signal).parseAsync(argv);
    return lost === undefined ? Number(process.exitCode ?? 0) : 1;
  } catch (error) {
    if (lost !== undefined && (error as Error).cause === lost) return 1;
    // Commander has printed help, the version or its complaint already.
    if (error instanceof CommanderError && error.exitCode === 0) return lost === undefined ? 0 : 1;
    // Loaded here, so that help and the version are quick.
    const { exitCodeOf, report, reportUsage } = await import('./failure.js');
    if (error instanceof CommanderError) {
      if (json) reportUsage(error);
      return 2;
    }
    report(error, json);
    return received || exitCodeOf(error);
  }
}

async function reportLost(error: Error, json: boolean): Promise<void> {
  const [{ report }, { outputFailed }] = await Promise.all([
    import('./failure.js'),
    import('./stdout.js'),
  ]);
  report(outputFailed(error), json);
}

let ended = false;
// With nothing left to wait for, and no result: what Node says of a module then.
process.once('exit', () => {
  if (!ended) process.exitCode = 13;
});
void main(process.argv).then((code) => {
  ended = true;
  process.exitCode = code;
});
