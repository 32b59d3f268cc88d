import { constants } from 'node:os';

/**
 * Names by number. Not of `util.getSystemErrorName`, which knows libuv's alone; of two names for one
 * number, the first in the alphabet (EAGAIN, not EWOULDBLOCK), but ENOTSUP as libuv says it.
 */
const NAMES = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno).sort()) {
  if (!NAMES.has(number) || name === 'ENOTSUP') NAMES.set(number, name);
}

/** The name of an errno of this system, as of errno(3): `EBUSY`. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}
