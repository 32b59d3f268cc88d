import { describe, expect, test } from 'vitest';
import { MACHINES } from './machine.js';
import { whatIsMissing } from './programs.js';
import { conformanceOn } from './run.js';

const missing = whatIsMissing();
if (missing !== undefined) {
  console.warn(`\n!!! THE REAL KERNEL'S HTAB FD IS NOT TESTED: ${missing} !!!\n`);
}

/** A minute each; a machine can be busy, and packages may have to be fetched. */
const TIMEOUT = 900_000;

describe.skipIf(missing !== undefined)('on a real kernel', () => {
  test.each(MACHINES)('$name', { timeout: TIMEOUT }, async (machine) => {
    const { checks, compared, differences, seconds } = await conformanceOn(machine);
    expect(checks.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
    expect(differences).toEqual([]);
    const passed = checks.filter(({ outcome }) => outcome === 'passed').length;
    console.log(
      `${machine.name}: ${passed} conformance checks, ${compared} random operations, ${seconds.toFixed(0)} s`,
    );
    expect(passed).toBeGreaterThan(50);
    expect(compared).toBeGreaterThan(6000);
  });
});
