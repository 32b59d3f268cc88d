/**
 * `npm run test:kernel`: the conformance suite on real kernels, on every machine, and random
 * operations and hostile writes compared between them and the table in memory.
 */
import { parseArgs } from 'node:util';
import { MACHINES, type Machine, prepare } from './machine.js';
import { installMissing } from './programs.js';
import { writeRecording } from './recordings.js';
import { type ConformanceRun, conformanceOn } from './run.js';

const USAGE = `usage: npm run test:kernel -- [MACHINE...] [--seed N] [--sequences N] [--operations N] [--record]

MACHINE: ${MACHINES.map(({ name }) => name).join(', ')}; all unless given.
For root, programs that are missing are installed with apt-get first.
--record keeps what the kernels answer in fixtures/kernel.`;

async function main(signal: AbortSignal): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: 'string', default: '1' },
      sequences: { type: 'string', default: '6' },
      operations: { type: 'string', default: '1000' },
      record: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const machines = MACHINES.filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  if (machines.length < positionals.length) throw new Error(USAGE);
  const options = {
    seed: wholeNumber('seed', values.seed),
    sequences: wholeNumber('sequences', values.sequences),
    operations: wholeNumber('operations', values.operations),
    signal,
  };
  await installMissing(console.log, signal);
  const { image } = await prepare({ signal });
  console.log(image.release);
  const totals = { checks: 0, operations: 0 };
  for (const machine of machines) {
    const run = await conformanceOn(machine, options);
    tell(machine, run);
    if (values.record) record(machine, image.release, run);
    totals.checks += run.checks.filter(({ outcome }) => outcome === 'passed').length;
    totals.operations += run.compared - run.differences.length;
  }
  console.log(
    `${totals.checks} conformance checks passed, ${totals.operations} random operations gave the same, ` +
      `on ${machines.length} machines`,
  );
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number < 2 ** 31) return number;
  throw new Error(`--${name} takes a whole number below 2^31, not "${text}"\n\n${USAGE}`);
}

function tell(machine: Machine, run: ConformanceRun): void {
  const { checks, compared, differences, seconds } = run;
  const passed = checks.filter(({ outcome }) => outcome === 'passed');
  const failed = checks.filter(({ outcome }) => outcome === 'failed');
  console.log(
    `${machine.name}: ${passed.length} conformance checks passed, ${failed.length} failed; ` +
      `${compared} random operations compared, ${differences.length} differ; ${seconds.toFixed(0)} s`,
  );
  for (const { id, outcome, reason } of checks) {
    if (outcome !== 'passed') console.log(`  ${id}: ${outcome}: ${reason}`);
  }
  for (const { operation, kernel, software } of differences.slice(0, 10)) {
    console.log(`  ${operation}\n    kernel:   ${kernel}\n    software: ${software}`);
  }
  if (failed.length > 0 || differences.length > 0) process.exitCode = 1;
}

function record(machine: Machine, release: string, { host, sequences }: ConformanceRun): void {
  const { type, append } = machine;
  const kernel = `${release}, kvm-hv on ${type}${append === '' ? '' : ` with ${append}`}`;
  writeRecording({ host, kernel, sequences });
}

const controller = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => controller.abort(new Error(`received ${signal}`)));
}
main(controller.signal).catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
