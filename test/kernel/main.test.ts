import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

/** `npm run test:kernel` on a host that has nothing. */
function main(...args: string[]) {
  const program = fileURLToPath(new URL('main.ts', import.meta.url));
  const options = { encoding: 'utf8', env: { ...process.env, PATH: '/nothing' } } as const;
  return spawnSync(process.execPath, ['--import', 'tsx', program, ...args], options);
}

test.each([
  ['--seed', 'x'],
  ['--seed', ''],
  ['--seed', '1.5'],
  ['--sequences', '1e3'],
  ['--operations', '4294967296'],
])('%s "%s" is refused: nothing runs, and that is no success', (option, value) => {
  const { status, stdout, stderr } = main(`${option}=${value}`);
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toContain(`${option} takes a whole number below 2^31, not "${value}"`);
  expect(stderr).toContain('usage:');
});

test('a machine that there is not is refused', () => {
  const { status, stderr } = main('POWER7');
  expect(status).toBe(1);
  expect(stderr).toContain('MACHINE: POWER8, POWER9, POWER9-hash');
});
