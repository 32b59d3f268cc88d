/**
 * Runs inside: every check of the conformance suite on the kernel's own fd, and sequences of random
 * operations and of writes that are wrong, whose answers are written down. Arguments: the host; the
 * first seed, how many of either kind, and the operations or writes of each.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runSequence } from '../fd-conformance/random.js';
import { CHECKS, lacking, runCheck } from '../fd-conformance/suite.js';
import { answerAsChild, CHILD, nativeBackend } from './native-backend.js';
import { packageChecks } from './package-checks.js';
import type { CheckResult, Host, SequenceResult } from './report.js';
import { Kvm } from './vm.js';

async function main(host: Host, first: number, count: number, length: number): Promise<void> {
  const backend = nativeBackend(host);
  const checks: CheckResult[] = [];
  for (const check of CHECKS) {
    const reason = lacking(check, backend);
    if (reason !== undefined) {
      checks.push({ id: check.id, outcome: 'not applicable', reason });
      continue;
    }
    await forget();
    checks.push(await outcome(check.id, () => runCheck(check, backend)));
  }
  const kvm = new Kvm();
  for (const check of packageChecks) {
    await forget();
    checks.push(await outcome(check.id, () => check.run(kvm)));
  }
  const sequences: SequenceResult[] = [];
  for (const kind of ['operations', 'hostile writes'] as const) {
    for (let seed = first; seed < first + count; seed++) {
      await forget();
      const plan = { kind, seed, length };
      const answers: string[] = [];
      await runSequence(backend, plan, (_, answer) => answers.push(answer));
      sequences.push({ ...plan, answers });
    }
  }
  const results = process.env.SPAPR_HTAB_RESULTS ?? '.';
  writeFileSync(join(results, 'conformance.json'), JSON.stringify({ host, checks, sequences }));
}

async function outcome(id: string, run: () => Promise<void>): Promise<CheckResult> {
  const began = performance.now();
  try {
    await run();
    return { id, outcome: 'passed', seconds: (performance.now() - began) / 1000 };
  } catch (error) {
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { id, outcome: 'failed', reason };
  }
}

/** Memory of VMs that are closed is given back when they are collected; the host has little. */
async function forget(): Promise<void> {
  globalThis.gc?.();
  await new Promise((resolve) => setImmediate(resolve));
}

const [word, ...rest] = process.argv.slice(2);
if (word === CHILD) answerAsChild(rest[0] ?? '[]');
else await main(word as Host, Number(rest[0]), Number(rest[1]), Number(rest[2]));
