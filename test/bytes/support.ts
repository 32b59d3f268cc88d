import { spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach } from 'vitest';
import { type Addon, loadAddon } from '../../src/addon/load.js';
import { AtomicFile } from '../../src/bytes/output.js';
import type { ByteSource } from '../../src/bytes/source.js';
import { scratch, scratchFile } from '../helpers/sources.js';

afterEach(() => {
  delete process.env.SPAPR_HTAB_NO_ADDON;
});

/** Switches the addon on or off until the end of the test. */
export function useAddon(on: boolean): void {
  if (on) delete process.env.SPAPR_HTAB_NO_ADDON;
  else process.env.SPAPR_HTAB_NO_ADDON = '1';
}

/** The addon, which must be built wherever tests are run. */
export function addon(): Addon {
  const { addon, failure } = loadAddon();
  if (addon === undefined) throw new Error('the addon is not built', { cause: failure });
  return addon;
}

export const MIB = 1 << 20;
export const BOTH = [
  ['with the addon', true],
  ['without the addon', false],
] as const;

/** Whether the addon copies here. */
export const COPIES = process.platform === 'linux';

export interface Piece {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** A file with data at the given places and holes between them. */
export function sparseFile(size: number, pieces: readonly Piece[], path = scratchFile('sparse')) {
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, size);
  for (const { at, bytes } of pieces) writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
  return path;
}

/** Bytes that a file takes on its device. */
export function allocated(path: string): number {
  return statSync(path).blocks * 512;
}

/** A file system of 1 MiB in memory, until the end of the test file. */
export function smallDevice(): string | undefined {
  return mounted('small', 'A FULL DEVICE', [['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none']]);
}

/** A file system whose files can share blocks, until the end of the test file. */
export function sharingDevice(): string | undefined {
  const image = sparseFile(512 * MIB, []);
  return mounted('sharing', 'SHARING OF BLOCKS', [
    ['mkfs.xfs', '-q', '-m', 'reflink=1', image],
    ['mount', '-t', 'xfs', '-o', 'loop', image],
  ]);
}

/**
 * The folder where the last command mounts something; undefined where that is not possible, which
 * is said loudly.
 */
function mounted(name: string, what: string, commands: readonly string[][]): string | undefined {
  const folder = join(scratch(), name);
  mkdirSync(folder);
  for (const [at, [command = '', ...args]] of commands.entries()) {
    const last = at === commands.length - 1 ? [folder] : [];
    const { status, stderr, error } = spawnSync(command, [...args, ...last], { encoding: 'utf8' });
    if (status === 0) continue;
    const why = error?.message ?? stderr.trim();
    console.warn(`\n!!! ${command} FAILED (${why}): ${what} IS NOT TESTED !!!\n`);
    return undefined;
  }
  // Before the folder around it is removed: hooks run in the reverse of their order.
  afterAll(() => void spawnSync('umount', ['-l', folder]));
  return folder;
}

/** What is made of a source, and how many bytes it takes. */
export async function made(
  source: ByteSource,
  job: (file: AtomicFile, source: ByteSource) => Promise<void>,
  path = scratchFile('made'),
): Promise<{ bytes: Buffer; allocated: number }> {
  await using input = source;
  await using file = await AtomicFile.create(path);
  await job(file, input);
  await file.commit();
  return { bytes: readFileSync(path), allocated: allocated(path) };
}
