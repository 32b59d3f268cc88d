import { existsSync, readFileSync } from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { cli } from '../helpers/cli.js';
import { scratchFile } from '../helpers/sources.js';
import { startPeer } from '../native/support.js';

// What the commands do with a real HTAB fd is in test/kernel/package-checks.ts.

afterEach(() => vi.unstubAllEnvs());

const fresh = (name: string): string => `${scratchFile('fd')}-${name}`;

test.runIf(process.platform === 'linux').each([
  ['no fd is named', [], 2, /say which fd: --fd N or --pid PID \[E_USAGE\]/],
  ['it is something else', ['--fd', '0'], 2, /file descriptor 0 is no HTAB fd.*\[E_NOT_HTAB_FD\]/],
  ['it is not open', ['--fd', '999'], 1, /file descriptor 999: it is not open.*\[E_HTAB_FD\]/],
  ['there is no such process', ['--pid', '2147483646'], 1, /process 2147483646.*\[E_IO\]/],
  ['no number is given', ['--fd', 'x'], 2, /whole number/],
  ['passes are none', ['--fd', '0', '--passes', '0'], 2, /whole number from 1/],
] as const)('capture: %s', async (_, args, code, message) => {
  const output = fresh('out.htab');
  const run = await cli(['capture', '-o', output, ...args]);
  expect(run.code).toBe(code);
  expect(run.stderr).toMatch(message);
  expect(existsSync(output)).toBe(false);
});

test.runIf(process.platform === 'linux')('a process without HTAB fd', async () => {
  const { pid } = await startPeer();
  const run = await cli(['capture', '--pid', String(pid), '-o', fresh('x.htab'), '--json']);
  expect(run.code).toBe(1);
  expect(JSON.parse(run.stderr).error).toMatchObject({ code: 'E_NO_HTAB_FD' });
});

test('restore: the fd is looked at before the input', async () => {
  const run = await cli(['restore', '/does/not/exist', '--fd', '0']);
  expect(run.code).toBe(2);
  expect(run.stderr).toMatch(/E_NOT_HTAB_FD/);
});

test('without the addon', async () => {
  vi.stubEnv('SPAPR_HTAB_NO_ADDON', '1');
  const run = await cli(['capture', '--fd', '0', '-o', fresh('y.htab')]);
  expect(run.code).toBe(4);
  expect(run.stderr).toMatch(/compiled part.*\[E_NATIVE\]/);
  const doctor = await cli(['doctor']);
  expect(doctor.code).toBe(0);
  expect(doctor.stdout.toString()).toMatch(/addon +not loaded: .*SPAPR_HTAB_NO_ADDON/);
});

test('doctor: what this machine offers', async () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  const text = await cli(['doctor']);
  expect([text.code, text.stderr]).toEqual([0, '']);
  for (const word of [process.version, process.arch, 'addon', 'HTAB fd', 'zstd', version]) {
    expect(text.stdout.toString()).toContain(word);
  }
  const json = await cli(['doctor', '--json']);
  const report = JSON.parse(json.stdout.toString());
  expect(report).toMatchObject({
    version,
    node: process.version,
    platform: process.platform,
    arch: process.arch,
    addon: { path: expect.stringMatching(/\.node$/) },
    kvm: expect.anything(),
  });
  expect(report.programs.map(({ program }: { program: string }) => program)).toContain('xz');
});

test('doctor: an addon that cannot be loaded', async () => {
  const rubbish = scratchFile('rubbish.node', Buffer.from('no ELF'));
  vi.stubEnv('SPAPR_HTAB_ADDON', rubbish);
  const { code, stdout } = await cli(['doctor']);
  expect(code).toBe(0);
  expect(stdout.toString()).toContain(`not loaded from ${rubbish}`);
});
