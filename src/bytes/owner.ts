import { createHash } from 'node:crypto';
import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';

/** What a part of the tag says that this host does not tell. */
const UNKNOWN = '0';

/**
 * A process, told apart from all others that can reach the same folder: those of other hosts, of
 * other boots of this one, of other containers, and those that had its number before.
 *
 * Written `machine-boot-namespace-pid-start`: hashes of the machine and its name, of the boot and
 * of the namespaces that number processes and shift their start times; `start` is field 22 of
 * /proc/PID/stat, in clock ticks (proc_pid_stat(5)). Outside Linux only machine and pid are known.
 */
export interface Owner {
  readonly machine: string;
  readonly boot: string;
  readonly namespace: string;
  readonly pid: number;
  readonly start: string;
}

/** What kill(2) takes. */
const MAX_PID = 0x7fff_ffff;

const TAG = /^([0-9a-f]{8}|0)-([0-9a-f]{8}|0)-([0-9a-f]{8}|0)-([1-9]\d{0,9})-(\d{1,20})$/;

export function formatOwner({ machine, boot, namespace, pid, start }: Owner): string {
  return [machine, boot, namespace, pid, start].join('-');
}

export function parseOwner(tag: string): Owner | undefined {
  const [, machine, boot, namespace, pid, start] = TAG.exec(tag) ?? [];
  if (!machine || !boot || !namespace || !start || Number(pid) > MAX_PID) return undefined;
  return { machine, boot, namespace, pid: Number(pid), start };
}

/** This process. Never fails: what cannot be found out is unknown. */
export async function thisOwner(): Promise<Owner> {
  const { pid } = process;
  if (process.platform !== 'linux') {
    const machine = hash(`${process.platform}\n${hostname()}`);
    return { machine, boot: UNKNOWN, namespace: UNKNOWN, pid, start: UNKNOWN };
  }
  const id = await text('/etc/machine-id');
  const boot = await text('/proc/sys/kernel/random/boot_id');
  const pids = await link('/proc/self/ns/pid');
  // Linux 5.6 and later.
  const time = (await link('/proc/self/ns/time')) ?? '';
  return {
    // With its name: machines that were cloned may have one id.
    machine: id === undefined ? UNKNOWN : hash(`${id}\n${hostname()}`),
    boot: boot === undefined ? UNKNOWN : hash(boot),
    namespace: pids === undefined ? UNKNOWN : hash(`${pids}\n${time}`),
    pid,
    // A /proc of another namespace counts processes in its own way.
    start: ((await link('/proc/self')) === `${pid}` && (await startOf(pid))) || UNKNOWN,
  };
}

/**
 * Whether it is certain that the process is gone, as `self` sees it. What is not known, another
 * machine or another container, is taken to be running.
 */
export async function isGone(owner: Owner, self: Owner): Promise<boolean> {
  const known = (a: string, b: string): boolean => a !== UNKNOWN && b !== UNKNOWN;
  const same = (a: string, b: string): boolean => known(a, b) && a === b;
  const { machine, boot, namespace, pid, start } = owner;
  if (process.platform === 'linux') {
    if (!known(boot, self.boot)) return false;
    // Equal boots are of one machine, whatever its name: the id of a boot is random.
    if (boot !== self.boot) return same(machine, self.machine);
    if (!same(namespace, self.namespace)) return false;
  } else if (!same(machine, self.machine)) {
    return false;
  }
  if (!isRunning(pid)) return true;
  // The number may have gone to another process since.
  if (!known(self.start, start)) return false;
  const now = await startOf(pid);
  return now !== undefined && now !== start;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

async function startOf(pid: number): Promise<string | undefined> {
  const stat = await text(`/proc/${pid}/stat`);
  // The name of the program, in parentheses, may hold anything; field 3 follows it.
  const field = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  return field !== undefined && /^\d+$/.test(field) ? field : undefined;
}

async function text(path: string): Promise<string | undefined> {
  const content = await readFile(path, 'utf8').catch(() => '');
  return content.trim() || undefined;
}

function link(path: string): Promise<string | undefined> {
  return readlink(path).catch(() => undefined);
}

function hash(words: string): string {
  return createHash('sha256').update(words).digest('hex').slice(0, 8);
}
