import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Programs of the host, and the packages of Debian that have them. */
const PACKAGES = {
  'apt-get': 'apt',
  dpkg: 'dpkg',
  mke2fs: 'e2fsprogs',
  'qemu-system-ppc64': 'qemu-system-ppc',
  'powerpc64le-linux-gnu-gcc': 'gcc-powerpc64le-linux-gnu',
  'powerpc64le-linux-gnu-g++': 'g++-powerpc64le-linux-gnu',
} as const;

export type ProgramName = keyof typeof PACKAGES;

/** mke2fs is where only root looks. */
const FOLDERS = [...(process.env.PATH ?? '').split(':').filter(Boolean), '/usr/sbin', '/sbin'];

function find(name: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The Debian packages that a test on a real kernel needs and this host does not have. */
export function missingPackages(): string[] {
  return Object.entries(PACKAGES)
    .filter(([program]) => find(program) === undefined)
    .map(([, name]) => name);
}

/** What to type where packages are missing; undefined where none is. */
export function whatIsMissing(): string | undefined {
  const missing = missingPackages();
  return missing.length === 0 ? undefined : `apt-get install ${missing.join(' ')}`;
}

export function pathOf(program: ProgramName): string {
  const path = find(program);
  if (path === undefined) {
    throw new Error(`${program} not found: apt-get install ${PACKAGES[program]}`);
  }
  return path;
}

/** Runs one to its end; what it wrote to stdout. */
export async function execute(
  program: ProgramName,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<string> {
  return (await run(pathOf(program), args, { signal, maxBuffer: 1 << 26 })).stdout;
}
