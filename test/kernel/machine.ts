import { type ChildProcess, spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CACHE } from './cache.js';
import { type Addons, compileAddons } from './cross.js';
import { type Image, prepareImage } from './image.js';
import { pathOf } from './programs.js';
import { fillShare, type Job, readResults } from './share.js';

/** Emulated bare metal, on which Linux is the hypervisor. */
export interface Machine {
  readonly name: string;
  /** Machine type of QEMU. */
  readonly type: string;
  /** What is added to the kernel's command line. */
  readonly append: string;
}

export const POWER8: Machine = { name: 'POWER8', type: 'powernv8', append: '' };
/** The host's own memory is mapped by a radix tree; its guests choose. */
export const POWER9: Machine = { name: 'POWER9', type: 'powernv9', append: '' };
export const POWER9_HASH: Machine = {
  name: 'POWER9-hash',
  type: 'powernv9',
  append: 'disable_radix',
};
export const MACHINES: readonly Machine[] = [POWER8, POWER9, POWER9_HASH];

interface Limits {
  /** RAM of the machine in MiB. Default 2048. */
  readonly memory?: number;
  /** After which the machine is ended, and that is an error. Default 300. */
  readonly seconds?: number;
}

export interface RunOptions extends Limits, Partial<Omit<Job, 'entry'>> {
  /** Packages of Debian in the root image, besides Node, with what they depend on. Default none. */
  readonly packages?: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

export interface KernelRun {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit status of the program. */
  readonly status: number;
  /** Files that the program wrote to the folder SPAPR_HTAB_RESULTS, by path in it. */
  readonly results: ReadonlyMap<string, Buffer>;
  /** From the start of QEMU to its end. */
  readonly seconds: number;
  /** What the kernel and init have said. */
  readonly console: string;
  /** What it ran on, e.g. `Linux 6.1.0-50-powerpc64le (Debian 6.1.176-1), nodejs 18.20.4+dfsg-1~deb12u2`. */
  readonly release: string;
}

const CONSOLE = 'console.log';
const MEMORY = 2048;
const SECONDS = 300;

/** What a run is made from; quick when it is in the cache. */
export async function prepare({
  packages,
  signal,
}: Pick<RunOptions, 'packages' | 'signal'> = {}): Promise<{
  readonly image: Image;
  readonly addons: Addons;
}> {
  try {
    const addons = await compileAddons(signal);
    return { image: await prepareImage(packages, signal), addons };
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/**
 * Runs a TypeScript program with Node on a real kernel with kvm-hv: bundles it, boots an emulated
 * machine and brings out what it printed and wrote. The first time takes half a minute longer, while
 * packages are fetched and addons compiled. A status other than 0 is not an error here.
 *
 * @throws Error when the machine did not get as far as the program's end; the console is kept, and
 *   the end of it is in the message
 */
export async function runOnKernel(
  machine: Machine,
  entry: string,
  options: RunOptions = {},
): Promise<KernelRun> {
  const { signal, seconds = SECONDS, memory = MEMORY } = options;
  const { image, addons } = await prepare(options);
  const { args = [], nodeFlags = [], files = {} } = options;
  const work = await mkdtemp(join(tmpdir(), 'spapr-htab-kernel-'));
  try {
    const share = join(work, 'share');
    await mkdir(share);
    await fillShare(share, { entry, args, nodeFlags, files }, addons);
    const began = performance.now();
    const qemu = qemuArguments(machine, image, { memory, seconds });
    const ended = await runQemu(work, qemu, seconds, signal);
    const took = (performance.now() - began) / 1000;
    const console = await text(join(work, CONSOLE));
    const [stdout, stderr, status] = await Promise.all(
      ['stdout', 'stderr', 'status'].map((name) => text(join(share, name))),
    );
    signal?.throwIfAborted();
    if (!status) {
      const log = await keep(machine, join(work, CONSOLE));
      throw new Error(
        `${machine.name}: ${ended} after ${took.toFixed(1)} s, before the program had ended.\n` +
          `--- stdout:\n${tail(stdout)}\n--- stderr:\n${tail(stderr)}\n` +
          `--- console (all of it is in ${log}):\n${tail(console)}`,
      );
    }
    return {
      stdout: stdout ?? '',
      stderr: stderr ?? '',
      status: Number(status),
      results: await readResults(share),
      seconds: took,
      console,
      release: image.release,
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function qemuArguments(machine: Machine, image: Image, options: Required<Limits>): string[] {
  const { memory, seconds } = options;
  // Linux turns itself off if nobody is left who would end the machine.
  const limit = `kernel_test_seconds=${seconds + 60}`;
  return [
    ...['-M', machine.type, '-m', `${memory}M`, '-accel', 'tcg', '-no-reboot'],
    // The firmware waits a second for each host bridge, and by default there are six.
    ...['-nodefaults', '-display', 'none', ...bridge(0), ...bridge(1)],
    // What turns the machine off.
    ...['-device', 'ipmi-bmc-sim,id=bmc', '-device', 'isa-ipmi-bt,bmc=bmc,irq=10'],
    ...['-kernel', image.kernel, '-initrd', image.initrd],
    ...['-append', `console=hvc0 panic=-1 ${limit} ${machine.append}`],
    ...['-serial', `file:${CONSOLE}`],
    ...['-fsdev', 'local,id=share,path=share,security_model=none'],
    ...['-device', 'virtio-9p-pci,fsdev=share,mount_tag=share,bus=port0'],
    ...['-drive', `file=${image.root},if=none,id=root,format=raw,readonly=on`],
    ...['-device', 'virtio-blk-pci,drive=root,bus=port1'],
  ];
}

/** A PCI host bridge with a port, which is the bus `portN`. */
function bridge(index: number): string[] {
  const id = `bridge${index}`;
  const port = `pnv-phb-root-port,bus=${id},id=port${index}`;
  return ['-device', `pnv-phb,chip-id=0,index=${index},id=${id}`, '-device', port];
}

/** Runs QEMU until it ends or is ended; how, in words. */
async function runQemu(
  work: string,
  args: readonly string[],
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  signal?.throwIfAborted();
  const child = spawn(pathOf('qemu-system-ppc64'), args, {
    cwd: work,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (piece: string) => {
    errors = tail(errors + piece);
  });
  let timedOut = false;
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(() => {
    timedOut = true;
    kill();
  }, seconds * 1000);
  signal?.addEventListener('abort', kill, { once: true });
  // The machine must not outlive this program.
  process.once('exit', kill);
  try {
    const how = await exit(child);
    return timedOut ? `ended because ${seconds} s were over,` : `QEMU ended (${how}) ${errors}`;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
    process.off('exit', kill);
  }
}

function exit(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, by) => resolve(String(code ?? by)));
  });
}

/** Keeps the console of a machine that failed. */
async function keep(machine: Machine, log: string): Promise<string> {
  const kept = join(CACHE, `${machine.name}.${CONSOLE}`);
  await copyFile(log, kept).catch(() => undefined);
  return kept;
}

async function text(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).replaceAll('\r', '');
}

function tail(said = ''): string {
  return said.slice(-3000);
}
