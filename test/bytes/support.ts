import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach } from 'vitest';
import { type Addon, loadAddon } from '../../src/addon/load.js';
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

/**
 * A file system of 1 MiB, until the end of the test file; undefined where none can be mounted,
 * which is said loudly.
 */
export function smallDevice(): string | undefined {
  const folder = join(scratch(), 'small');
  mkdirSync(folder);
  const { status, stderr, error } = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', 'size=1m', 'none', folder],
    { encoding: 'utf8' },
  );
  if (status !== 0) {
    const why = error?.message ?? stderr.trim();
    console.warn(`\n!!! CANNOT MOUNT A tmpfs (${why}): A FULL DEVICE IS NOT TESTED !!!\n`);
    return undefined;
  }
  // Before the folder around it is removed: hooks run in the reverse of their order.
  afterAll(() => void spawnSync('umount', ['-l', folder]));
  return folder;
}
