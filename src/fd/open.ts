import { setTimeout } from 'node:timers/promises';
import { errnoName } from '../addon/errno.js';
import { loadAddon, type NativeFile, type NativeHtab, type NativeOpen } from '../addon/load.js';
import { abortable } from '../bytes/abort.js';
import type { OperationOptions } from '../bytes/reader.js';
import { IoError, ioError, throwIfAborted, UnsupportedError, UsageError } from '../errors.js';
import { checkU64 } from './arguments.js';
import {
  type HtabOpenOptions,
  htabFdError,
  KVM_GET_HTAB_BOLTED_ONLY,
  KVM_GET_HTAB_WRITE,
} from './descriptor.js';
import { HtabFd } from './htab-fd.js';
import { NativeDescriptor } from './native-descriptor.js';
import { htabFdsOf, inspectFd } from './process.js';

/**
 * Asks the kernel for the HTAB fd of a VM (KVM_PPC_GET_HTAB_FD with the number of this platform).
 * The kernel grants it only to the process that made the VM; the result may be handed on.
 * @param vmFd the VM's file descriptor, as of KVM_CREATE_VM; it stays the caller's
 * @throws UnsupportedError `E_NATIVE` where this host cannot do it; IoError `E_HTAB_FD`
 */
export async function openHtabFd(vmFd: number, options: HtabOpenOptions = {}): Promise<HtabFd> {
  const { write = false, boltedOnly = false, startIndex = 0n } = options;
  const fd = descriptorNumber(vmFd);
  checkU64('startIndex', startIndex);
  const flags = (write ? KVM_GET_HTAB_WRITE : 0n) | (boltedOnly ? KVM_GET_HTAB_BOLTED_ONLY : 0n);
  const opened = await native().open(fd, flags, startIndex);
  const file = fileOf(opened, 'get the HTAB fd of the VM', refusals);
  return new HtabFd(new NativeDescriptor(file), write);
}

/**
 * An HTAB fd that this process has already: inherited, or received. It is duplicated: the number
 * stays the caller's, to close when it is no longer needed. Both share one position in the table.
 * @throws UsageError `E_NOT_HTAB_FD`; UnsupportedError `E_NATIVE`; IoError
 */
export async function adoptHtabFd(fd: number): Promise<HtabFd> {
  const opened = native().duplicate(descriptorNumber(fd));
  const what = `file descriptor ${fd}`;
  return htabFdOf(fileOf(opened, `use ${what}`, { EBADF: 'it is not open' }), what);
}

export interface ProcessFdOptions {
  /** Which of its fds, where it has several. Default: the only one. */
  readonly fd?: number | undefined;
}

/**
 * Duplicates an HTAB fd that another process has open (pidfd_getfd(2), Linux 5.6), as QEMU has one
 * while it saves or loads a guest. Needs the right to trace that process.
 *
 * Position and "modified" marks are shared: what is read here, the other process does not get. A
 * QEMU whose fd is read while it migrates completes without an error, and its stream lacks those
 * entries; use this on processes that hold an fd for you.
 * @throws IoError `E_NO_HTAB_FD` when it has none, `E_HTAB_FD`; UsageError `E_NOT_HTAB_FD`, and
 *   `E_USAGE` when it has several; UnsupportedError `E_NATIVE`
 */
export async function htabFdOfProcess(
  pid: number,
  options: ProcessFdOptions = {},
): Promise<HtabFd> {
  const htab = native();
  if (!Number.isSafeInteger(pid) || pid < 1) {
    throw new UsageError('E_USAGE', `${pid} is no process ID`);
  }
  const fd = options.fd === undefined ? await onlyFdOf(pid) : descriptorNumber(options.fd);
  const words = {
    EPERM: 'it may not be traced by this user',
    ESRCH: 'there is no such process',
    ENOENT: 'it is a thread, and not a process',
    EINVAL: 'it is a thread, and not a process',
    EBADF: 'it is not open there',
  };
  const what = `file descriptor ${fd} of process ${pid}`;
  return htabFdOf(fileOf(htab.take(pid, fd), `take ${what}`, words), what);
}

/**
 * What has come here is looked at, not the number that was asked for: that may be another file by now.
 * Takes the file over.
 */
async function htabFdOf(file: NativeFile, what: string): Promise<HtabFd> {
  try {
    const { write } = await inspectFd(file.fd, what);
    return new HtabFd(new NativeDescriptor(file), write);
  } catch (error) {
    file.close();
    throw error;
  }
}

async function onlyFdOf(pid: number): Promise<number> {
  const found = await htabFdsOf(pid);
  const [only] = found;
  if (only === undefined) {
    throw new IoError(
      'E_NO_HTAB_FD',
      `process ${pid} has no HTAB fd open; QEMU has one only while it saves or loads a guest`,
    );
  }
  if (found.length > 1) {
    const list = found.map(({ fd, write }) => `${fd} (${write ? 'written' : 'read'})`).join(', ');
    throw new UsageError('E_USAGE', `process ${pid} has several HTAB fds; say which: ${list}`);
  }
  return only.fd;
}

/** How long to wait between two looks at a socket, in milliseconds. */
const POLL_MS = 20;

/**
 * Connects to a Unix socket and takes the HTAB fd that its server sends (SCM_RIGHTS, with at least
 * one byte of data). Waits until it comes, or until the signal fires.
 * @param path of the socket; `@` in front means an abstract name
 * @throws IoError `E_IO` when there is no such socket, `E_HTAB_FD`; UsageError `E_NOT_HTAB_FD`;
 *   UnsupportedError `E_NATIVE`; AbortedError
 */
export async function receiveHtabFd(
  path: string,
  { signal }: Pick<OperationOptions, 'signal'> = {},
): Promise<HtabFd> {
  const htab = native();
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new UsageError('E_USAGE', 'a socket has a path, or an abstract name that begins with @');
  }
  throwIfAborted(signal);
  const socket = await connect(htab, path, signal);
  try {
    let received = htab.receive(socket);
    while (received.file === undefined && errnoName(received.errno) === 'EAGAIN') {
      await pause(signal);
      received = htab.receive(socket);
    }
    const file = fileOf(received, `receive a file descriptor from ${path}`, {
      ECONNRESET: 'the server closed the connection without sending one',
      ENOMSG: 'a message came without one',
      EBADMSG: 'several came at once',
    });
    return await htabFdOf(file, `what came from ${path}`);
  } finally {
    socket.close();
  }
}

/** Waits where so many others are waiting that the server's queue is full. */
async function connect(
  htab: NativeHtab,
  path: string,
  signal: AbortSignal | undefined,
): Promise<NativeFile> {
  for (;;) {
    const { file, errno } = htab.connect(path);
    if (file !== undefined) return file;
    const code = errnoName(errno);
    if (code !== 'EAGAIN') {
      throw ioError(Object.assign(new Error(code), { code }), 'connect to', path);
    }
    await pause(signal);
  }
}

function pause(signal: AbortSignal | undefined): Promise<void> {
  return abortable(setTimeout(POLL_MS), signal);
}

function descriptorNumber(fd: number): number {
  if (Number.isSafeInteger(fd) && fd >= 0 && fd < 2 ** 31) return fd;
  throw new UsageError('E_USAGE', `${fd} is no file descriptor`);
}

function native(): NativeHtab {
  const { addon, failure } = loadAddon();
  if (addon?.htab !== undefined) return addon.htab;
  throw new UnsupportedError(
    'E_NATIVE',
    addon === undefined
      ? 'the HTAB fd needs the compiled part of spapr-htab, which is not there; `spapr-htab doctor` says why'
      : `the HTAB fd is a part of Linux; this is ${process.platform}`,
    { cause: failure },
  );
}

/** What the ioctl answers where it is not what it should be. */
const refusals = {
  ENOTTY: `it is no VM of kvm-hv on ppc64 (this is a ${process.arch} host)`,
  EBADF: 'it is not open',
  EIO: 'it was made by another process; only that one can ask for the HTAB fd',
};

function fileOf(opened: NativeOpen, doing: string, words: Record<string, string> = {}): NativeFile {
  if (opened.file !== undefined) return opened.file;
  const name = errnoName(opened.errno);
  if (name === 'ENOSYS') {
    throw new UnsupportedError('E_NATIVE', `cannot ${doing}: this kernel has no such call`);
  }
  throw htabFdError(doing, name, words[name] ?? name);
}
