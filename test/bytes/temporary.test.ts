import { type ChildProcess, spawn } from 'node:child_process';
import {
  chownSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';
import { AtomicFile } from '../../src/bytes/output.js';
import { formatOwner, isGone, type Owner, parseOwner, thisOwner } from '../../src/bytes/owner.js';
import { removeStale, temporaryName } from '../../src/bytes/temporary.js';
import { random, scratchFile } from '../helpers/sources.js';

const LINUX = process.platform === 'linux';
const REWRITER = fileURLToPath(new URL('./rewriter.mjs', import.meta.url));

let folder = '';
let target = '';
beforeEach(() => {
  folder = scratchFile('folder');
  mkdirSync(folder);
  target = join(folder, 'guest.img');
});
const here = (): string[] => readdirSync(folder).sort();

/** Ended by SIGKILL, as by the kernel when memory is short. */
async function kill(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

async function rewriter(size: number, force = true): Promise<ChildProcess> {
  const args = [REWRITER, target, String(size), ...(force ? ['force'] : [])];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', () => reject(new Error('the child ended by itself')));
  });
  return child;
}

/** The number of a process that has just ended. */
async function endedProcess(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' });
  await new Promise((resolve) => child.once('exit', resolve));
  if (child.pid === undefined) throw new Error('not started');
  return child.pid;
}

/** A temporary file of the target as another process would name it. */
async function temporaryOf(owner: Partial<Owner>): Promise<string> {
  const self = await thisOwner();
  const name = basename(await temporaryName(target));
  return join(folder, name.replace(formatOwner(self), formatOwner({ ...self, ...owner })));
}

describe('names', () => {
  test.each([
    'a',
    'x'.repeat(255),
    `${'ä'.repeat(127)}x`,
    '漢'.repeat(85),
    '😀'.repeat(63),
    '.',
    '..x',
  ])('%s', async (name) => {
    const path = join(folder, `${name}`);
    const temporary = basename(await temporaryName(path));
    // As long as ever, with the largest numbers that there are.
    const longest = temporary.replace(
      formatOwner(await thisOwner()),
      `${'f'.repeat(8)}-${'f'.repeat(8)}-${'f'.repeat(8)}-2147483647-${'9'.repeat(20)}`,
    );
    expect(Buffer.byteLength(longest)).toBeLessThanOrEqual(255);
    expect(temporary).not.toContain('\ufffd');
    writeFileSync(join(folder, longest), '');
    rmSync(join(folder, longest));
    if (name === '.') return;
    await using file = await AtomicFile.create(path);
    await file.commit();
    expect(here()).toEqual([name]);
  });

  test('long targets that begin alike do not share them', async () => {
    const pid = await endedProcess();
    const stem = 'x'.repeat(240);
    for (const end of ['1', '2']) {
      target = join(folder, stem + end);
      writeFileSync(await temporaryOf({ pid }), '');
    }
    expect(here().length).toBe(2);
    await removeStale(join(folder, stem));
    expect(here().length).toBe(2);
    await removeStale(target);
    expect(here().length).toBe(1);
  });

  test('an owner is written and read back; anything else is none', async () => {
    const self = await thisOwner();
    expect(parseOwner(formatOwner(self))).toEqual(self);
    if (LINUX) {
      // The machine's id may be missing, in a container.
      expect(formatOwner(self)).toMatch(/^([0-9a-f]{8}|0)-[0-9a-f]{8}-[0-9a-f]{8}-\d+-\d+$/);
      expect(self.start).not.toBe('0');
    }
    for (const tag of [
      '',
      'x',
      '0-0-0-0-0',
      '0-0-0--1-0',
      '0-0-0-2147483648-0',
      '0-0-0-1-',
      ' 0-0-0-1-0',
      '0-0-0-1-0\n',
      '0-0-0-1-0-0',
    ]) {
      expect(parseOwner(tag), tag).toBeUndefined();
    }
  });
});

describe('whether an owner is gone', () => {
  const other = 'ffffffff';

  test.runIf(LINUX)('on Linux', async () => {
    const self = { ...(await thisOwner()), machine: '11111111' };
    const pid = await endedProcess();
    const gone = (owner: Partial<Owner>) => isGone({ ...self, ...owner }, self);
    expect(await gone({})).toBe(false);
    expect(await gone({ pid })).toBe(true);
    // The number was given to another process since.
    expect(await gone({ start: String(Number(self.start) - 1) })).toBe(true);
    expect(await gone({ start: '0' })).toBe(false);
    // Init belongs to another user, or to this one, and runs.
    expect(await gone({ pid: 1, start: '0' })).toBe(false);
    // Another container of this host: its numbers mean nothing here.
    expect(await gone({ pid, namespace: other })).toBe(false);
    expect(await gone({ pid, namespace: '0' })).toBe(false);
    // This host by another name, in the same boot.
    expect(await gone({ pid, machine: other })).toBe(true);
    // Before this boot; of this machine or of another.
    expect(await gone({ boot: other })).toBe(true);
    expect(await gone({ boot: other, machine: other })).toBe(false);
    expect(await gone({ boot: '0', pid })).toBe(false);
    // Machines without an id are not known to be one.
    const nameless = { ...self, machine: '0' };
    expect(await isGone({ ...nameless, boot: other }, nameless)).toBe(false);
    // A /proc that counts in its own way tells no start times.
    const blind = { ...self, start: '0' };
    expect(await isGone({ ...self, start: '1' }, blind)).toBe(false);
  });

  test.runIf(!LINUX)('elsewhere, by number', async () => {
    const self = await thisOwner();
    const pid = await endedProcess();
    expect(await isGone(self, self)).toBe(false);
    expect(await isGone({ ...self, pid }, self)).toBe(true);
    expect(await isGone({ ...self, pid, machine: other }, self)).toBe(false);
  });
});

describe('cleaning', () => {
  test('takes the files of ended processes, and no others', async () => {
    const pid = await endedProcess();
    const stale = await temporaryOf({ pid });
    writeFileSync(stale, 'stale');
    // A run that was killed between its last two steps.
    writeFileSync(join(folder, 'committed'), 'whole');
    linkSync(join(folder, 'committed'), await temporaryOf({ pid }));

    const symlink = await temporaryOf({ pid });
    writeFileSync(join(folder, 'pointed-at'), '');
    symlinkSync(join(folder, 'pointed-at'), symlink);
    const directory = await temporaryOf({ pid });
    mkdirSync(directory);
    const live = await temporaryOf({});
    writeFileSync(live, '');
    const foreign = await temporaryOf({ pid, machine: 'ffffffff', boot: 'ffffffff' });
    writeFileSync(foreign, '');
    const near = [
      stale.replace('guest.img', 'guest.imh'),
      stale.replace('.spapr-htab-tmp', '.tmp'),
      stale.replace('.spapr-htab-tmp', '.x.spapr-htab-tmp'),
      stale.replace(/[0-9a-f]\.spapr-htab-tmp$/, '.spapr-htab-tmp'),
      stale.replace(`-${pid}-`, '-x-'),
    ];
    for (const path of near) writeFileSync(path, '');
    const kept = [
      'committed',
      'pointed-at',
      ...[symlink, directory, live, foreign, ...near].map((path) => basename(path)),
    ];
    if (process.geteuid?.() === 0) {
      const strangers = await temporaryOf({ pid });
      writeFileSync(strangers, '');
      chownSync(strangers, 12_345, 12_345);
      kept.push(basename(strangers));
    }

    await removeStale(target);
    expect(here()).toEqual(kept.sort());
    expect(statSync(join(folder, 'committed')).nlink).toBe(1);
  });

  test('comes before the target is refused, and never fails', async () => {
    writeFileSync(target, 'old');
    writeFileSync(await temporaryOf({ pid: await endedProcess() }), 'stale');
    await expect(AtomicFile.create(target)).rejects.toMatchObject({ code: 'E_EXISTS' });
    expect(here()).toEqual(['guest.img']);
    await removeStale(join(folder, 'nonexistent', 'x'));
    await removeStale(join(target, 'x'));
    await expect(AtomicFile.create(join(folder, 'nonexistent', 'x'))).rejects.toMatchObject({
      code: 'E_IO',
      actual: 'ENOENT',
    });
  });

  test('writers that run leave each other alone', async () => {
    const child = await rewriter(400_000_000);
    try {
      const before = here();
      expect(before.length).toBe(1);
      await using first = await AtomicFile.create(target);
      await using second = await AtomicFile.create(target);
      expect(here().length).toBe(3);
      await first.append(Buffer.from('first'));
      await first.commit();
      await expect(second.commit()).rejects.toMatchObject({ code: 'E_EXISTS' });
      expect(readFileSync(target, 'latin1')).toBe('first');
      expect(here()).toEqual([...before, 'guest.img'].sort());
      await kill(child);
      await removeStale(target);
      expect(here()).toEqual(['guest.img']);
    } finally {
      child.kill('SIGKILL');
    }
  });
});

describe('killed at any moment', () => {
  const SIZE = 64 * 4096;
  const whole = (bytes: Buffer): boolean =>
    bytes.length === SIZE && bytes.equals(Buffer.alloc(SIZE, bytes[0]));

  test.each([
    ['replacing a file', true, 35],
    ['writing new files', false, 15],
  ] as const)('%s: whole or not there, and the next run cleans up', async (_, force, times) => {
    const next = random(times);
    let leftBehind = 0;
    for (let time = 0; time < times; time++) {
      if (force) writeFileSync(target, Buffer.alloc(SIZE, 0xff));
      const child = await rewriter(SIZE, force);
      await new Promise((resolve) => setTimeout(resolve, next() * 40));
      await kill(child);
      const names = here();
      const temporaries = names.filter((name) => name.endsWith('.spapr-htab-tmp'));
      const files = names.filter((name) => !temporaries.includes(name));
      leftBehind += temporaries.length;
      expect(temporaries.length).toBeLessThanOrEqual(1);
      if (force) expect(files).toEqual(['guest.img']);
      for (const name of files) expect(whole(readFileSync(join(folder, name))), name).toBe(true);
      // A run for any of the files that were begun.
      for (const name of force ? files : [...files, `guest.img-${files.length}`]) {
        await using file = await AtomicFile.create(join(folder, name), { force: true });
        await file.discard();
      }
      expect(here()).toEqual(files);
      for (const name of files) rmSync(join(folder, name));
    }
    // The moments were such that there was something to clean.
    expect(leftBehind).toBeGreaterThan(0);
  });
});
