import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { rewrite } from 'spapr-htab';
import { beforeAll, describe, expect, test } from 'vitest';
import { smallDevice } from '../bytes/support.js';
import { fixture, load } from '../helpers/fixtures.js';
import { random, scratch } from '../helpers/sources.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const KILLS = 30;

let input = '';
let folder = '';
beforeAll(() => {
  folder = join(scratch(), 'crash');
  mkdirSync(folder);
  input = join(folder, 'input.mig');
  writeFileSync(input, load(fixture('containers/compress.mig.gz')));
});

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const temporaries = (path: string) =>
  readdirSync(path).filter((name) => name.endsWith('.spapr-htab-tmp'));

describe.each([
  ['a raw stream', ['--machine', 'pseries-7.1']],
  ['compressed', ['--machine', 'pseries-7.1', '--compress', 'gzip']],
])('killed while it writes %s', (_, edits) => {
  test('the output is as it was, or whole', async () => {
    const output = join(folder, 'output');
    const args = [MAIN, 'rewrite', input, '-o', output, ...edits, '--force'];
    const begun = Date.now();
    expect(spawnSync(process.execPath, args).status).toBe(0);
    const duration = Date.now() - begun;
    const whole = sha256(output);
    const next = random(duration);
    for (let i = 0; i < KILLS; i++) {
      const old = i % 2 === 0;
      if (old) writeFileSync(output, `old ${i}`);
      else rmSync(output, { force: true });
      const child = spawn(process.execPath, args, { stdio: 'ignore' });
      const gone = new Promise((resolve) => child.once('exit', resolve));
      await sleep(duration * (0.3 + 0.8 * next()));
      child.kill('SIGKILL');
      await gone;
      if (!existsSync(output)) expect(old, `kill ${i}`).toBe(false);
      else if (readFileSync(output).length < 10)
        expect(readFileSync(output, 'utf8')).toBe(`old ${i}`);
      else expect(sha256(output), `kill ${i}`).toBe(whole);
    }
    expect(spawnSync(process.execPath, args).status).toBe(0);
    expect(sha256(output)).toBe(whole);
    expect(temporaries(folder)).toEqual([]);
  });
});

describe('a full disk', () => {
  const device = smallDevice();

  test.skipIf(device === undefined).each([
    ['raw', {}],
    ['raw, compacted', { compact: true }],
    ['gzip', { compress: 'gzip' }],
  ] as const)('%s', async (_, edits) => {
    const output = join(device ?? '', 'output');
    writeFileSync(output, 'old');
    await expect(rewrite(input, output, { ...edits, force: true })).rejects.toMatchObject({
      code: 'E_IO',
      actual: 'ENOSPC',
    });
    expect(readFileSync(output, 'utf8')).toBe('old');
    expect(temporaries(device ?? '')).toEqual([]);
  });
});
