import {
  chmodSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { cli } from '../helpers/cli.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { smallGuest } from '../helpers/stream.js';
import { SCENES } from './scenes.js';
import { compileShim } from './shim.js';
import { Stage } from './stage.js';

// A snapshot holds all that its guest knows.

const INPUT = scratchFile('guest.mig', smallGuest());

let folder = '';
let output = '';
beforeEach(() => {
  folder = scratchFile('folder');
  mkdirSync(folder);
  output = join(folder, 'output');
});

const VERBS = [
  ['convert', ['--to', 'kernel']],
  ['convert', ['--to', 'image']],
  ['convert', ['--to', 'archive']],
  ['rewrite', ['--machine', 'pseries-7.1']],
  ['ram', []],
] as const;

/** Under that umask. */
async function run(umask: number, args: readonly string[]) {
  const before = process.umask(umask);
  try {
    return await cli(args);
  } finally {
    process.umask(before);
  }
}

describe('an output', () => {
  test.each(VERBS)(
    "%s %j: is its owner's alone, whatever the umask and what it replaces",
    async (verb, rest) => {
      for (const [umask, old] of [
        [0o000, undefined],
        [0o000, 0o666],
        [0o022, 0o640],
      ] as const) {
        if (old !== undefined) {
          writeFileSync(output, 'old');
          chmodSync(output, old);
        }
        const { code } = await run(umask, [verb, INPUT, '-o', output, '--force', ...rest]);
        expect(code).toBe(0);
        expect(lstatSync(output).mode & 0o7777).toBe(0o600);
      }
    },
  );

  test('of a symbolic link to a file is the link, and the file stays', async () => {
    const elsewhere = scratchFile('elsewhere', Buffer.from('keep'));
    symlinkSync(elsewhere, output);
    const args = ['convert', INPUT, '-o', output, '--to', 'kernel'];
    expect((await cli(args)).code).toBe(2);
    expect(readlinkSync(output)).toBe(elsewhere);
    expect((await cli([...args, '--force'])).code).toBe(0);
    expect(lstatSync(output).isFile()).toBe(true);
    expect(readFileSync(elsewhere, 'utf8')).toBe('keep');
  });

  test.each([
    ['that leads nowhere', 'missing'],
    ['to itself', 'output'],
    ['to a folder', '.'],
    ['to a device', '/dev/null'],
  ])('a symbolic link %s is refused, and nothing is made where it leads', async (_, target) => {
    symlinkSync(target, output);
    const { code, stderr } = await cli(['convert', INPUT, '-o', output, '--to', 'kernel', '-f']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/symbolic link.*\[E_IO\]\n$/);
    expect(readlinkSync(output)).toBe(target);
    expect(readdirSync(folder)).toEqual(['output']);
  });

  test('of several names for one file: the others keep what they had', async () => {
    const other = join(folder, 'other');
    writeFileSync(other, 'keep');
    linkSync(other, output);
    const { code } = await cli(['convert', INPUT, '-o', output, '--to', 'kernel', '--force']);
    expect(code).toBe(0);
    expect(readFileSync(other, 'utf8')).toBe('keep');
    expect(lstatSync(output).nlink).toBe(1);
  });
});

describe.runIf(process.platform === 'linux')('temporary files', () => {
  let shim = '';
  beforeAll(() => {
    shim = compileShim(scratch()) ?? '';
  });

  test.each(SCENES)(
    '$name: new, private from their creation, and no link is followed',
    async (scene) => {
      const stage = new Stage(scene, join(scratch(), 'stage'), shim, true);
      const before = process.umask(0);
      const { operations } = await stage.rehearse();
      process.umask(before);
      const created = operations.filter(({ name }) => name === 'create');
      expect(created.length).toBeGreaterThan(0);
      for (const { path, details } of created) {
        // Not under the output's own name: that it gets when it is whole.
        expect(path).toMatch(/\/(\.[^/]*\.spapr-htab-tmp|spapr-htab-[0-9a-f-]{36})$/);
        const [, flags, mode] = /^flags=(\S+) mode=(\S+)$/.exec(details) ?? [];
        expect(mode).toBe('0600');
        // With O_EXCL a symbolic link is an error (open(2)), wherever it leads.
        expect(Number(flags) & constants.O_EXCL).toBe(constants.O_EXCL);
      }
    },
  );
});
