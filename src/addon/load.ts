import { createRequire } from 'node:module';
import { resolve, toNamespacedPath } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What the host's KVM says; see native/src/probe.h. */
export interface KvmProbe {
  readonly supported: boolean;
  /** KVM_PPC_GET_HTAB_FD by the headers of this platform. */
  readonly ioctl: number;
  readonly errno: number;
  readonly apiVersion: number;
  readonly extension: number;
}

/** How far a range was copied; see native/src/copy-range.h. Counts are bytes. */
export interface CopiedRange {
  readonly copied: number;
  readonly shared: number;
  readonly errno: number;
  /** Whether it was the input that failed, where `errno` is not 0. */
  readonly reading: boolean;
}

/** How far blocks were passed; see native/src/pass-blocks.h. */
export interface PassedBlocks {
  readonly bytes: number;
  readonly blocks: number;
  readonly valid: number;
  readonly errno: number;
  /** Whether it was the input that failed, where `errno` is not 0. */
  readonly reading: boolean;
}

/** How far pages were passed over; see native/src/walk-pages.h. */
export interface WalkedPages {
  /** Of the first entry that was not. */
  readonly position: number;
  readonly pages: number;
  readonly zeroPages: number;
}

/** Most bytes that one call of a {@link NativeFile} takes: each has a copy of its own. */
export const NATIVE_MAX_BYTES = 16 * 1024 * 1024;

/**
 * An open descriptor of the addon's own. It is closed when `close` was called and no call on it is
 * in flight, or when the object is collected, or with its environment.
 *
 * Promises are not rejected. What is no argument of a call is a TypeError, more than
 * {@link NATIVE_MAX_BYTES} a RangeError, both thrown; a closed file says EBADF.
 */
export interface NativeFile {
  /** The number, for messages and /proc; -1 once closed. */
  readonly fd: number;
  /**
   * One read(2) on a thread of the pool, again after EINTR. `errno` is 0 when it succeeded.
   * `bytes` is a copy of what was read.
   */
  read(length: number): Promise<{ readonly bytes: Uint8Array; readonly errno: number }>;
  /** One write(2) of a copy of `bytes`, likewise. */
  write(bytes: Uint8Array): Promise<{ readonly count: number; readonly errno: number }>;
  /**
   * One write(2) for each block of `bytes` (headers in the byte order of the host), up to the
   * first that fails. A block that does not end within `bytes` is never handed over: EINVAL.
   * EPROTO, which kvm-hv gives for no write: the kernel took another number of bytes than the block
   * has, so some of it may be in the table.
   */
  writeBlocks(
    bytes: Uint8Array,
  ): Promise<{ readonly blocks: number; readonly bytes: number; readonly errno: number }>;
  /**
   * Never fails. What is in flight ends first; a call that waits for another process, as on a pipe,
   * also keeps a thread or the process from ending.
   */
  close(): void;
}

export type NativeOpen =
  | { readonly file: NativeFile; readonly errno: 0 }
  | { readonly file?: undefined; readonly errno: number };

/** On Linux only. `errno` is 0, or why there is no file. */
export interface NativeHtab {
  /**
   * ioctl(KVM_PPC_GET_HTAB_FD) of a VM fd, with the number that this platform uses. The VM fd may be
   * closed before the promise settles.
   */
  open(vmFd: number, flags: bigint, startIndex: bigint): Promise<NativeOpen>;
  /** A duplicate (F_DUPFD_CLOEXEC): the caller's number stays the caller's. */
  duplicate(fd: number): NativeOpen;
  /** pidfd_open(2) and pidfd_getfd(2): a duplicate of the other process' descriptor. */
  take(pid: number, fd: number): NativeOpen;
  /** Connects to a Unix socket, without waiting. `@` in front: an abstract name. */
  connect(path: string): NativeOpen;
  /**
   * One recvmsg(2) without waiting: the descriptor that came (SCM_RIGHTS). EAGAIN while nothing
   * did; for other outcomes see native/src/adopt.h.
   */
  receive(socket: NativeFile): NativeOpen;
}

export type NativePipe =
  | { readonly readFd: number; readonly writer: NativeFile; readonly errno: 0 }
  | { readonly readFd?: undefined; readonly writer?: undefined; readonly errno: number };

/** On Linux only: what a program that is started here gets as its standard input and output. */
export interface NativeChild {
  /**
   * The same regular file or block device again, for reading only, with a position of its own:
   * `position`. ESPIPE: it is something else. It needs /proc, and the right to open the file. The
   * given number may be closed before the promise settles.
   */
  reopen(fd: number, position: number): Promise<NativeOpen>;
  /**
   * pipe2(2), for about `capacity` bytes where that may be had. Who calls it closes `readFd`, whose
   * number a Socket can take over.
   */
  pipe(capacity: number): NativePipe;
}

/** The compiled part of the package. */
export interface Addon {
  probe(): KvmProbe;
  readonly htab?: NativeHtab;
  readonly child?: NativeChild;
  /** On Linux only. Both descriptors must stay open until it is done; it never rejects. */
  copyRange?(
    inFd: number,
    inOffset: number,
    outFd: number,
    outOffset: number,
    length: number,
  ): Promise<CopiedRange>;
  /** Likewise. */
  passBlocks?(
    inFd: number,
    inOffset: number,
    outFd: number,
    outOffset: number,
    length: number,
    slots: number,
    fromLittle: boolean,
    toLittle: boolean,
  ): Promise<PassedBlocks>;
  /**
   * On Linux only. The descriptor must stay open until it is done; it never rejects. What cannot be
   * read is what it stops in front of.
   */
  walkPages?(fd: number, position: number, end: number, usedLength: number): Promise<WalkedPages>;
}

export type AddonLoad =
  | { readonly addon: Addon; readonly path: string; readonly failure?: undefined }
  | { readonly addon?: undefined; readonly path: string | undefined; readonly failure: unknown };

/** Set to anything, this variable makes the package work as where the addon could not be built. */
const OFF = 'SPAPR_HTAB_NO_ADDON';
/** The file that this variable names is loaded as the addon, and no other. It is read once. */
const FILE = 'SPAPR_HTAB_ADDON';

let loaded: AddonLoad | undefined;

/** The addon and the file it is from, or why it is not there: the package works without it. */
export function loadAddon(): AddonLoad {
  if (process.env[OFF]) {
    return { path: undefined, failure: new Error(`it is switched off by ${OFF}`) };
  }
  loaded ??= load();
  return loaded;
}

function load(): AddonLoad {
  let path: string | undefined;
  try {
    path = process.env[FILE] ? resolve(process.env[FILE]) : find();
    return { addon: open(path), path };
  } catch (failure) {
    return { path, failure };
  }
}

/** Not by `require`, which takes a file for JSON or JavaScript, and executes it, by its name. */
function open(path: string): Addon {
  const module: { exports: Partial<Addon> | null } = { exports: {} };
  process.dlopen(module, toNamespacedPath(path));
  if (typeof module.exports?.probe === 'function') return module.exports as Addon;
  throw new Error(`${path} is an addon, but not that of spapr-htab: it has no function \`probe\``);
}

/** A build of this machine's own, else the prebuilt one for its platform, CPU and C library. */
function find(): string {
  const require = createRequire(import.meta.url);
  const { path } = require('node-gyp-build') as { path(folder: string): string };
  return path(fileURLToPath(new URL('../../native', import.meta.url)));
}
