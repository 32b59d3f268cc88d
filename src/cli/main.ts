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
  // What is printed may go into a pipe that closes, or onto a full disk.
  process.stdout.on('error', (error: Error) => {
    process.stderr.write(`spapr-htab: cannot write to standard output: ${error.message}\n`);
    process.exitCode = 1;
  });
  try {
    await program(controller.signal).parseAsync(argv);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // Commander has printed help, the version or its complaint already.
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const json = argv.includes('--json');
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

process.exitCode = await main(process.argv);
