import { fileURLToPath } from 'node:url';
import type { Host } from '../fd-conformance/backend.js';
import { fixture, load } from '../helpers/fixtures.js';
import { type Machine, runOnKernel } from './machine.js';
import { type ConformanceResult, compare, type Difference } from './report.js';

const PROGRAM = fileURLToPath(new URL('conformance.ts', import.meta.url));

export interface ConformanceOptions {
  /** Seed of the first sequence of random operations; the others count up. Default 1. */
  readonly seed?: number;
  /** How many sequences. Default 6. */
  readonly sequences?: number;
  /** Operations in each. Default 1000. */
  readonly operations?: number;
  /** After which the machine is ended, and that is an error. Default 1800. */
  readonly seconds?: number;
  readonly signal?: AbortSignal;
}

const HOSTS: Readonly<Record<string, Host>> = {
  POWER8: 'power8',
  POWER9: 'power9-radix',
  'POWER9-hash': 'power9-hash',
};

export interface ConformanceRun extends ConformanceResult {
  /** Random operations to which the kernel and the table in memory gave other answers. */
  readonly differences: readonly Difference[];
  /** Random operations that were compared. */
  readonly compared: number;
  readonly seconds: number;
}

/** The conformance suite on the kernel of that machine, and the table in memory against it. */
export async function conformanceOn(
  machine: Machine,
  options: ConformanceOptions = {},
): Promise<ConformanceRun> {
  const { seed = 1, sequences = 6, operations = 1000, seconds: limit = 1800, signal } = options;
  const host = HOSTS[machine.name];
  if (host === undefined) throw new Error(`no such host: ${machine.name}`);
  const { status, stderr, results, seconds } = await runOnKernel(machine, PROGRAM, {
    args: [host, String(seed), String(sequences), String(operations)],
    nodeFlags: ['--expose-gc'],
    files: {
      'guest.htab': load(fixture('kvm/h8-guest.htab.gz')),
      'many.written': load(fixture('kvm/p8-many.written.gz')),
      'many.r2048': load(fixture('kvm/p8-many-r2048.htab.gz')),
      'many.r1048576': load(fixture('kvm/p8-many-r1048576.htab.gz')),
      'snapshot.mig': load(fixture('qemu/linux-p8-paused.mig.gz')),
    },
    seconds: limit,
    signal,
  });
  const report = results.get('conformance.json');
  if (status !== 0 || report === undefined) {
    throw new Error(`${machine.name}: the suite ended with ${status}: ${stderr}`);
  }
  const result = JSON.parse(report.toString()) as ConformanceResult;
  const differences: Difference[] = [];
  for (const sequence of result.sequences) {
    differences.push(...(await compare(result.host, sequence)));
  }
  const compared = result.sequences.reduce((sum, { answers }) => sum + answers.length, 0);
  return { ...result, differences, compared, seconds };
}
