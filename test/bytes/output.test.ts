import { execFileSync } from 'node:child_process';
import {
  linkSync,
  lstatSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { chmod, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LentHandle } from '../../src/bytes/lend.js';
import { AtomicFile } from '../../src/bytes/output.js';
import { refusal } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';

let folder = '';
let target = '';
beforeEach(async () => {
  folder = scratchFile('folder');
  await mkdir(folder);
  target = join(folder, 'target');
});
afterEach(() => vi.restoreAllMocks());

const here = (): string[] => readdirSync(folder);
const failure = (code: string): Error => Object.assign(new Error(code), { code });

/** What all file handles inherit from, for errors that devices do not make to order. */
async function handles(): Promise<{ sync(): Promise<void> }> {
  await using handle = await open('/dev/null');
  return Object.getPrototypeOf(handle);
}

describe('size', () => {
  test('what was written, passed over, or truncated', async () => {
    await using file = await AtomicFile.create(target);
    await file.append(Buffer.from('abc'));
    await file.hole(2);
    expect(file.position).toBe(5);
    await file.append(Buffer.from('d'));
    await file.write(Buffer.from('B'), 1);
    await file.write(Buffer.alloc(0), 100);
    await file.hole(3);
    await file.commit();
    expect(readFileSync(target, 'latin1')).toBe('aBc\0\0d\0\0\0');
  });

  test('truncate counts as the last word, and writes go on from there', async () => {
    await using file = await AtomicFile.create(target);
    await file.append(Buffer.from('abcdef'));
    await file.truncate(3);
    await file.write(Buffer.from('x'), 4);
    await file.commit();
    expect(readFileSync(target, 'latin1')).toBe('abc\0x');
  });

  test('what stands beyond what something else appended is no part of it, nor of a hole', async () => {
    await using file = await AtomicFile.create(target);
    await file.appendBy(async (fd, position) => {
      writeSync(fd, 'abcdef', position);
      return 3;
    });
    await file.hole(2);
    await file.append(Buffer.from('g'));
    await file.appendBy(async (fd, position) => {
      writeSync(fd, 'hij', position);
      return 1;
    });
    await file.commit();
    expect(readFileSync(target, 'latin1')).toBe('abc\0\0gh');
  });

  test('nothing', async () => {
    await using file = await AtomicFile.create(target);
    await file.commit();
    expect(lstatSync(target)).toMatchObject({ size: 0, mode: 0o100600, nlink: 1 });
    expect(here()).toEqual(['target']);
    expect((await refusal(file.commit())).code).toBe('E_USAGE');
    await file.discard();
    expect(here()).toEqual(['target']);
  });
});

describe('commit', () => {
  test.each(['ENOSPC', 'EDQUOT', 'EIO'])('%s when it is synced: nothing is left', async (code) => {
    const file = await AtomicFile.create(target);
    await file.append(Buffer.from('new'));
    vi.spyOn(await handles(), 'sync').mockRejectedValueOnce(failure(code));
    expect(await refusal(file.commit())).toMatchObject({ code: 'E_IO', actual: code });
    expect(here()).toEqual([]);
  });

  test('EDQUOT when it is closed: nothing is left, and what was there stays', async () => {
    writeFileSync(target, 'old');
    const file = await AtomicFile.create(target, { force: true });
    await file.append(Buffer.from('new'));
    vi.spyOn(LentHandle.prototype, 'close').mockImplementationOnce(async function (
      this: LentHandle,
    ) {
      await this.handle.close();
      throw failure('EDQUOT');
    });
    expect(await refusal(file.commit())).toMatchObject({ code: 'E_IO', actual: 'EDQUOT' });
    expect(here()).toEqual(['target']);
    expect(readFileSync(target, 'latin1')).toBe('old');
  });

  test('an error of the folder alone leaves the complete file', async () => {
    const file = await AtomicFile.create(target);
    await file.append(Buffer.from('new'));
    const sync = vi.spyOn(await handles(), 'sync');
    sync.mockResolvedValueOnce(undefined).mockRejectedValueOnce(failure('EIO'));
    expect(await refusal(file.commit())).toMatchObject({ code: 'E_IO', actual: 'EIO' });
    await file.discard();
    expect(here()).toEqual(['target']);
    expect(readFileSync(target, 'latin1')).toBe('new');
  });

  test('not when the signal has fired: what was written last may be what was aborted', async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const file = await AtomicFile.create(target, { signal });
    await file.append(Buffer.from('new'));
    controller.abort();
    expect(await refusal(file.commit())).toMatchObject({ code: 'E_ABORTED' });
    expect(here()).toEqual([]);
  });

  test('another file under that name meanwhile', async () => {
    const file = await AtomicFile.create(target);
    writeFileSync(target, 'other');
    expect((await refusal(file.commit())).code).toBe('E_EXISTS');
    expect(here()).toEqual(['target']);
    expect(readFileSync(target, 'latin1')).toBe('other');
  });

  test('its own file under that name: a link that was made twice', async () => {
    const file = await AtomicFile.create(target);
    await file.append(Buffer.from('new'));
    linkSync(file.temporary, target);
    await file.commit();
    expect(here()).toEqual(['target']);
    expect(lstatSync(target)).toMatchObject({ size: 3, nlink: 1 });
  });

  test('force replaces a file and a symbolic link, not what that points to', async () => {
    const other = join(folder, 'other');
    writeFileSync(other, 'other');
    symlinkSync(other, target);
    expect((await refusal(AtomicFile.create(target))).code).toBe('E_EXISTS');
    for (const text of ['first', 'second']) {
      await using file = await AtomicFile.create(target, { force: true });
      await file.append(Buffer.from(text));
      await file.commit();
      expect(lstatSync(target).isFile()).toBe(true);
      expect(readFileSync(target, 'latin1')).toBe(text);
    }
    expect(readFileSync(other, 'latin1')).toBe('other');
    expect(here().sort()).toEqual(['other', 'target']);
  });

  test.each([
    ['a device', '/dev/null'],
    ['nothing', 'missing'],
    ['itself', 'target'],
    ['a folder', '.'],
    // Standard output, of which /dev/stdout is a link to one that is no usual one.
    ['what is open', '/proc/self/fd/1'],
  ])('force does not replace a symbolic link to %s', async (_, to) => {
    symlinkSync(to, target);
    expect((await refusal(AtomicFile.create(target))).code).toBe('E_EXISTS');
    const error = await refusal(AtomicFile.create(target, { force: true }));
    expect(error.code).toBe('E_IO');
    expect(error.message).toContain('symbolic link');
    expect(lstatSync(target).isSymbolicLink()).toBe(true);
    expect(here()).toEqual(['target']);
  });

  test('nor one to an open file, though that is a regular one', async () => {
    const other = join(folder, 'other');
    await using handle = await open(other, 'w');
    symlinkSync(`/proc/self/fd/${handle.fd}`, target);
    const error = await refusal(AtomicFile.create(target, { force: true }));
    expect(error.message).toContain('open file');
    expect(here().sort()).toEqual(['other', 'target']);
  });

  test('nor a FIFO', async () => {
    execFileSync('mkfifo', [target]);
    const error = await refusal(AtomicFile.create(target, { force: true }));
    expect(error.message).toContain('not a regular file');
    expect(lstatSync(target).isFIFO()).toBe(true);
  });

  test('a folder that may not be read', async () => {
    await chmod(folder, 0o300);
    const file = await AtomicFile.create(target);
    await file.commit();
    await chmod(folder, 0o700);
    expect(here()).toEqual(['target']);
  });
});
