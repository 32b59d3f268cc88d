import { statfsSync } from 'node:fs';

/** How many bytes a file system has free for this user. */
export function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

/** What is left free in any case. */
const RESERVE = 256 * 1024 * 1024;

/** @throws Error that says how much is missing and what to do */
export function requireSpace(folder: string, bytes: number, what: string): void {
  const free = freeBytes(folder);
  if (free >= bytes + RESERVE) return;
  const gib = (n: number): string => `${(n / 2 ** 30).toFixed(1)} GiB`;
  throw new Error(
    `${what} takes ${gib(bytes + RESERVE)} in ${folder}, where ${gib(free)} are free: ` +
      'name another folder (--dir, --outputs), or leave large cases out (--filter, --ram 1)',
  );
}
