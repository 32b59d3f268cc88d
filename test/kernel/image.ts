import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { ForeignPackages } from '../../fixtures/capture/apt.js';
import { type CpioEntry, cpio } from '../../fixtures/capture/cpio.js';
import { cached } from './cache.js';
import { modulesInOrder } from './modules.js';
import { execute } from './programs.js';

/** Files that a machine is started from. */
export interface Image {
  readonly kernel: string;
  readonly initrd: string;
  /** An ext4 file system with Node, to be mounted read-only. */
  readonly root: string;
  /** e.g. `Linux 6.1.0-50-powerpc64le (Debian 6.1.176-1), nodejs 18.20.4+dfsg-1~deb12u2` */
  readonly release: string;
}

const ARCHITECTURE = 'ppc64el';
/** Changed where this file makes something else of the same packages. */
const VERSION = '1';
const INIT = new URL('init.sh', import.meta.url);
const MIB = 2 ** 20;

/**
 * The Linux kernel and Node of Debian for ppc64el, fetched by apt without touching the system's own
 * lists. Everything is cached. Needs neither root nor mounts.
 *
 * @param packages what is in the root image besides Node, with what that depends on
 */
export async function prepareImage(
  packages: readonly string[] = [],
  signal?: AbortSignal,
): Promise<Image> {
  const kernel = await cached('linux', [VERSION], (folder) => fetchKernel(folder, signal));
  const init = await readFile(INIT);
  const initrd = await cached('initrd', [VERSION, basename(kernel), init], (folder) =>
    makeInitrd(kernel, init, folder),
  );
  const names = ['nodejs', 'busybox-static', ...packages];
  const root = await cached('root', [VERSION, ...names], (folder) =>
    makeRoot(names, folder, signal),
  );
  const releases = [kernel, root].map((folder) => readFile(join(folder, 'release'), 'utf8'));
  return {
    kernel: join(kernel, 'vmlinux'),
    initrd: join(initrd, 'initrd.gz'),
    root: join(root, 'root.ext4'),
    release: (await Promise.all(releases)).join(', '),
  };
}

/** Runs `use` with the packages of Debian and a folder for them, which is removed after that. */
async function withPackages(
  folder: string,
  signal: AbortSignal | undefined,
  use: (debian: ForeignPackages, downloads: string, tree: string) => Promise<void>,
): Promise<void> {
  const work = join(folder, 'work');
  const debian = await ForeignPackages.open(join(work, 'lists'), ARCHITECTURE, signal);
  await use(debian, join(work, 'downloads'), join(work, 'tree'));
  await rm(work, { recursive: true });
}

function fetchKernel(folder: string, signal: AbortSignal | undefined): Promise<void> {
  return withPackages(folder, signal, async (debian, downloads, tree) => {
    const image = await debian.linux('powerpc64le');
    await debian.unpack([image, 'busybox-static'], downloads, tree);
    const version = image.replace('linux-image-', '');
    await copyFile(join(tree, 'boot', `vmlinux-${version}`), join(folder, 'vmlinux'));
    await copyFile(join(tree, 'bin/busybox'), join(folder, 'busybox'));
    const modules = await modulesInOrder(join(tree, 'lib/modules', version));
    await mkdir(join(folder, 'modules'));
    for (const path of modules) await copyFile(path, join(folder, 'modules', basename(path)));
    const order = modules.map((path) => `${basename(path)}\n`).join('');
    await writeFile(join(folder, 'modules/order'), order);
    const release = `Linux ${version} (Debian ${await debian.version(image)})`;
    await writeFile(join(folder, 'release'), release);
  });
}

async function makeInitrd(kernel: string, init: Buffer, folder: string): Promise<void> {
  const directory = (name: string): CpioEntry => ({ name, mode: 0o040755 });
  const entries: CpioEntry[] = [
    ...['bin', 'dev', 'proc', 'sys', 'mnt', 'system', 'modules'].map(directory),
    { name: 'bin/busybox', mode: 0o100755, data: await readFile(join(kernel, 'busybox')) },
    // The kernel opens /dev/console for init before anything is mounted.
    { name: 'dev/console', mode: 0o020600, device: [5, 1] },
    { name: 'init', mode: 0o100755, data: init },
  ];
  for (const name of await readdir(join(kernel, 'modules'))) {
    const data = await readFile(join(kernel, 'modules', name));
    entries.push({ name: `modules/${name}`, mode: 0o100644, data });
  }
  await writeFile(join(folder, 'initrd.gz'), gzipSync(cpio(entries), { level: 1 }));
}

function makeRoot(
  names: readonly string[],
  folder: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  return withPackages(folder, signal, async (debian, downloads, tree) => {
    await debian.unpack(await debian.withDependencies(names), downloads, tree);
    for (const mount of ['dev', 'proc', 'sys', 'mnt', 'tmp']) {
      await mkdir(join(tree, mount), { recursive: true });
    }
    await chmod(join(tree, 'tmp'), 0o1777);
    await symlink('busybox', join(tree, 'bin/sh')).catch((error: NodeJS.ErrnoException) => {
      // A package has brought another.
      if (error.code !== 'EEXIST') throw error;
    });
    await rm(join(tree, 'usr/share/doc'), { recursive: true, force: true });
    // What a file takes beyond its content, and room for the file system's own tables.
    const size = ((await treeSize(tree)) / MIB) * 1.1 + 16;
    const image = join(folder, 'root.ext4');
    const options = ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-E', 'root_owner=0:0'];
    await execute('mke2fs', [...options, '-d', tree, image, `${Math.ceil(size)}M`], signal);
    await writeFile(join(folder, 'release'), `nodejs ${await debian.version('nodejs')}`);
  });
}

/** Bytes of the files below a folder, in blocks of 4 KiB. */
async function treeSize(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder, { recursive: true })) {
    bytes += Math.ceil(((await lstat(join(folder, name))).size + 1) / 4096) * 4096;
  }
  return bytes;
}
