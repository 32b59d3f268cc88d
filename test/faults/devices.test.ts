import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BOTH, smallDevice } from '../bytes/support.js';
import { fixture, load } from '../helpers/fixtures.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { MAIN } from './shim.js';

// Devices that are full and folders that may not be written, as they are: no shim.

const INPUT = scratchFile('guest.mig', load(fixture('containers/compress.mig.gz')));
const BLOCKS = scratchFile('guest.htab', load(fixture('kvm/h8-guest.htab.gz')));
const device = smallDevice();

interface End {
  readonly status: number | null;
  readonly stderr: string;
}

function run(args: readonly string[], addon = true, user?: number): End {
  const env = { ...process.env, SPAPR_HTAB_NO_ADDON: addon ? '' : '1' };
  const options = { encoding: 'utf8', env, ...(user !== undefined && { uid: user, gid: user }) };
  return spawnSync(process.execPath, [MAIN, ...args], options as { encoding: 'utf8' });
}

/** A line of an IoError that names the errno. */
const says = (errno: string) => new RegExp(`^spapr-htab: .*got ${errno}.* \\[E_IO\\]\\n$`);

const WRITERS = [
  ['convert', BLOCKS, ['--to', 'section']],
  ['convert', BLOCKS, ['--to', 'image']],
  ['rewrite', INPUT, ['--machine', 'pseries-7.1']],
  ['rewrite', INPUT, ['--compress', 'gzip']],
  ['ram', INPUT, []],
] as const;

describe.skipIf(device === undefined).each(BOTH)('a full device, %s', (_, addon) => {
  test.each(WRITERS)('%s %s %j', (verb, input, rest) => {
    const output = join(device ?? '', 'output');
    const full = join(device ?? '', 'full');
    writeFileSync(full, '');
    writeFileSync(output, 'old');
    // But for some pages: the folder has room for a name, and the file for its beginning.
    const { bavail, bsize } = statfsSync(device ?? '');
    writeFileSync(full, Buffer.alloc((bavail - 4) * bsize, 1));
    const { status, stderr } = run([verb, input, '-o', output, '--force', ...rest], addon);
    expect(stderr).toMatch(says('ENOSPC'));
    expect(stderr).toContain('free some, or write elsewhere');
    expect(status).toBe(1);
    expect(readFileSync(output, 'utf8')).toBe('old');
    expect(readdirSync(device ?? '').sort()).toEqual(['full', 'output']);
  });
});

test.skipIf(device === undefined)('an output on another file system than the input', () => {
  writeFileSync(join(device ?? '', 'full'), '');
  const output = join(device ?? '', 'elsewhere.htab');
  const small = scratchFile('small.mig', load(fixture('containers/slirp.mig.gz')));
  const { status, stderr } = run(['convert', small, '-o', output, '--to', 'kernel']);
  expect([status, stderr]).toEqual([0, '']);
  const here = scratchFile('here.htab');
  expect(run(['convert', small, '-o', here]).status).toBe(0);
  expect(readFileSync(output).equals(readFileSync(here))).toBe(true);
});

describe('what is no place for a file', () => {
  test.each(WRITERS)('/dev/full: %s %s %j', (verb, input, rest) => {
    const { status, stderr } = run([verb, input, '-o', '/dev/full', '--force', ...rest]);
    expect(stderr).toMatch(/cannot replace \/dev\/full: it is not a regular file.*\[E_IO\]\n$/);
    expect(status).toBe(1);
    expect(existsSync('/dev/full')).toBe(true);
  });

  // Root may write anywhere. Nobody may not even read this checkout, where it lies in somebody's home.
  const NOBODY = 65_534;
  const ROOT = process.geteuid?.() === 0;
  const NOBODY_READS = ROOT && run(['--version'], true, NOBODY).status === 0;
  if (!NOBODY_READS) console.warn('\n!!! A FOLDER THAT MAY NOT BE WRITTEN IS NOT TESTED !!!\n');

  test.runIf(NOBODY_READS)('a folder that may not be written', () => {
    const folder = scratchFile('locked');
    mkdirSync(folder);
    const output = join(folder, 'output');
    writeFileSync(output, 'old');
    chmodSync(folder, 0o555);
    chmodSync(scratch(), 0o755);
    chmodSync(INPUT, 0o644);
    const args = ['convert', INPUT, '-o', output, '--to', 'kernel', '--force'];
    const { status, stderr } = run(args, true, NOBODY);
    expect(stderr).toMatch(says('EACCES'));
    expect(status).toBe(1);
    expect(readFileSync(output, 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(['output']);
  });

  test('a folder that is not there, and one that is a file', () => {
    const file = scratchFile('file', Buffer.from('x'));
    const to = (output: string) => run(['convert', INPUT, '-o', output, '--to', 'kernel']);
    expect(to(join(scratch(), 'missing', 'x')).stderr).toMatch(says('ENOENT'));
    expect(to(join(file, 'x')).stderr).toMatch(says('ENOTDIR'));
    const loop = join(scratch(), 'loop');
    symlinkSync('loop', loop);
    expect(to(join(loop, 'x')).stderr).toMatch(says('ELOOP'));
  });
});

describe('standard output', () => {
  test.each([
    ['convert', ['--to', 'section']],
    ['rewrite', ['--machine', 'pseries-7.1']],
  ] as const)('a reader that goes away in the middle: %s', async (verb, rest) => {
    const child = spawn(process.execPath, [MAIN, verb, INPUT, '-o', '-', ...rest], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (piece: Buffer) => {
      stderr += piece;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const end = await new Promise((resolve) =>
      child.once('close', (code, signal) => resolve({ code, signal })),
    );
    expect(end).toEqual({ code: 1, signal: null });
    expect(stderr).toMatch(/^spapr-htab: .*the reader closed the pipe.*\[E_IO\]\n$/);
  });
});
