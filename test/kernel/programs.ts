import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * Programs of the host, and the packages of Debian that have them. node-gyp wants make and python3,
 * and no compiler for the host itself; readelf looks at the addon that comes out.
 */
export const PACKAGES = {
  'apt-get': 'apt',
  dpkg: 'dpkg',
  make: 'make',
  python3: 'python3',
  readelf: 'binutils',
  mke2fs: 'e2fsprogs',
  'qemu-system-ppc64': 'qemu-system-ppc',
  'powerpc64le-linux-gnu-gcc': 'gcc-powerpc64le-linux-gnu',
  'powerpc64le-linux-gnu-g++': 'g++-powerpc64le-linux-gnu',
} as const;

export type ProgramName = keyof typeof PACKAGES;

function find(name: string): string | undefined {
  // mke2fs is where only root looks.
  const folders = [...(process.env.PATH ?? '').split(':').filter(Boolean), '/usr/sbin', '/sbin'];
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The Debian packages that a test on a real kernel needs and this host does not have. */
function missingPackages(): string[] {
  return Object.entries(PACKAGES)
    .filter(([program]) => find(program) === undefined)
    .map(([, name]) => name);
}

/** What to type where packages are missing; undefined where none is. */
export function whatIsMissing(): string | undefined {
  const missing = missingPackages();
  return missing.length === 0 ? undefined : `apt-get install ${missing.join(' ')}`;
}

/**
 * Installs the packages that are missing, where that is for this user to do, and says so first.
 * @throws Error with what to type, when it is not, or when they are missing nevertheless
 */
export async function installMissing(
  say: (what: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const missing = missingPackages();
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0) {
    throw new Error(`this host lacks programs, and only root may do this: ${whatIsMissing()}`);
  }
  say(`this host lacks programs; installing ${missing.join(', ')} with apt-get`);
  const options = {
    signal,
    maxBuffer: 1 << 26,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  };
  const apt = pathOf('apt-get');
  // One mirror that cannot be reached may not be the one that is needed: install tells.
  await run(apt, ['update', '-q'], options).catch(({ message }) => say(message));
  await run(apt, ['install', '-q', '-y', '--no-install-recommends', ...missing], options);
  const still = whatIsMissing();
  if (still !== undefined) throw new Error(`still missing after apt-get: ${still}`);
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
