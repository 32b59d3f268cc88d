import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { MACHINES, runOnKernel } from './machine.js';
import { whatIsMissing } from './programs.js';

const SMOKE = fileURLToPath(new URL('smoke.ts', import.meta.url));

const missing = whatIsMissing();
if (missing !== undefined) {
  console.warn(`\n!!! THE REAL KERNEL'S HTAB FD IS NOT TESTED: ${missing} !!!\n`);
}

/** Twenty seconds each; a machine can be busy, and packages may have to be fetched. */
const TIMEOUT = 600_000;

describe.skipIf(missing !== undefined)('on a real kernel', () => {
  test.each(MACHINES)('$name: both addons work', { timeout: TIMEOUT }, async (machine) => {
    const { status, stdout, stderr, results } = await runOnKernel(machine, SMOKE);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(results.get('smoke.txt')?.toString()).toBe(stdout.trim());
    expect(stdout).toContain('EBUSY while it runs');
  });
});
