import type { Backend, Check } from './backend.js';
import { Bench } from './bench.js';
import { contractChecks } from './contract-checks.js';
import { entryChecks } from './entry-checks.js';
import { passChecks } from './pass-checks.js';
import { readChecks } from './read-checks.js';
import { systemChecks } from './system-checks.js';
import { vmChecks } from './vm-checks.js';
import { writeChecks } from './write-checks.js';

/** Every behaviour of the HTAB fd that is checked. */
export const CHECKS: readonly Check[] = [
  ...vmChecks,
  ...readChecks,
  ...passChecks,
  ...writeChecks,
  ...entryChecks,
  ...contractChecks,
  ...systemChecks,
];

/** Why a backend cannot be asked; undefined when it can. */
export function lacking(check: Check, backend: Backend): string | undefined {
  const missing = check.needs.filter((feature) => !backend.features.has(feature));
  return missing.length === 0 ? undefined : `${backend.name} has no ${missing.join(', ')}`;
}

/** Runs one check. @throws AssertionError */
export async function runCheck(check: Check, backend: Backend): Promise<void> {
  const bench = new Bench(backend);
  try {
    await check.run(bench);
  } finally {
    await bench.close();
  }
}
