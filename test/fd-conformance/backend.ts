import type { HtabFd } from '../../src/index.js';

/**
 * What the conformance suite runs on: something that makes VMs and gives out their HTAB fds. No
 * check knows which backend it runs on, except through `features` and `host`; the same files run
 * in the test process and, with the kernel as the backend, on emulated POWER hosts.
 */

/** The name of an errno, or what the call returned. */
export type Answer<T> =
  | { readonly errno: string; readonly value?: undefined }
  | { readonly errno?: undefined; readonly value: T };

export type Host = 'power8' | 'power9-radix' | 'power9-hash';

/** What not every backend has. */
export type Feature =
  /** Passes after the first, and fds that are written. */
  | 'vm'
  /** Two fds or more of one VM, flags, start index. */
  | 'open'
  /** Several blocks in one write are not taken as documented: the kernel's bugs. */
  | 'kernel-writes'
  /** They are taken as documented. */
  | 'documented-writes'
  /** A host whose headers are little-endian. */
  | 'little-endian'
  /** Calls of the operating system around the fd: ioctl, fcntl, lseek, processes. */
  | 'system'
  /** A vCPU that runs. */
  | 'vcpu'
  /** Guests in radix mode. */
  | 'radix';

export interface OpenArguments {
  readonly flags?: bigint;
  readonly startIndex?: bigint;
}

export interface Fd {
  /** The same fd as the package gives it: passes, whole blocks. */
  readonly htabFd: HtabFd;
  /** Asks for `length` bytes, of which `mapped` are memory. */
  read(length: number, mapped?: number): Promise<Answer<Uint8Array>>;
  /** Writes `count` bytes; behind `bytes` is no memory. */
  write(bytes: Uint8Array, count?: number): Promise<Answer<number>>;
  close(): Promise<void>;
  /** Of the kernel's fds: the number. */
  readonly number?: number;
}

/** Guest memory from `base` on, in bytes. */
export interface MemorySlot {
  readonly base: bigint;
  readonly size: bigint;
  /** In huge pages of the host, rather than in its small ones of 64 KiB. */
  readonly huge: boolean;
}

export interface Vm {
  /** KVM_PPC_ALLOCATE_HTAB; the order that it has then. */
  allocate(order: number): Promise<Answer<number>>;
  /** The guest's memory slots, in place of those it had. All of it is present in the host. */
  setMemory(slots: readonly MemorySlot[]): Promise<void>;
  open(options?: OpenArguments): Promise<Answer<Fd>>;
  /** Puts the guest into radix mode, or back. */
  setRadix(radix: boolean): Promise<Answer<number>>;
  startVcpu(): Promise<void>;
  stopVcpu(): Promise<void>;
  close(): Promise<void>;
  /** Of the kernel's VMs: the number of the VM fd. */
  readonly number?: number;
}

/** Calls of the operating system around VMs and fds, where there is one. Fds are numbers. */
export interface SystemCalls {
  /** What the package's own probe of /dev/kvm says. */
  probe(): { readonly ioctl: number; readonly extension: number; readonly errno: number };
  checkExtension(vm: number, extension: number): Answer<number>;
  /** KVM_PPC_GET_HTAB_FD with words in `reserved`, or with a pointer to no memory. */
  getHtabFd(vm: number, reserved: readonly [bigint, bigint] | 'bad pointer'): Answer<number>;
  link(fd: number): string;
  statusFlags(fd: number): number;
  descriptorFlags(fd: number): number;
  lseek(fd: number, offset: number): Answer<number>;
  pread(fd: number, length: number, position: number): Answer<number>;
  close(fd: number): void;
  /**
   * A child process that has these fds as its numbers 3, 4 … does the calls, in order: the answers
   * as text.
   */
  inChild(fds: readonly number[], calls: readonly ChildCall[]): Promise<readonly string[]>;
}

/** The child asks a VM fd: of its own numbers, or one that it takes from its parent (pidfd_getfd). */
export type VmCall = { readonly fd: number; readonly of?: 'parent' } & (
  | { readonly call: 'getHtabFd' }
  | { readonly call: 'checkExtension'; readonly extension: number }
  | { readonly call: 'allocate'; readonly order: number }
);

export type ChildCall =
  | VmCall
  | { readonly call: 'read'; readonly fd: number; readonly length: number }
  | { readonly call: 'write'; readonly fd: number; readonly hex: string };

export interface Backend {
  /** With the feature `system`. */
  readonly system?: SystemCalls;
  readonly name: string;
  readonly host: Host;
  readonly features: ReadonlySet<Feature>;
  readonly byteOrder: 'little' | 'big';
  createVm(): Promise<Vm>;
}

/** One behaviour of the HTAB fd. */
export interface Check {
  /** Stable name: `read/strict-fit`. docs/htab-fd.md lists them. */
  readonly id: string;
  /** Where the behaviour comes from: a function of the kernel. */
  readonly source: string;
  readonly needs: readonly Feature[];
  /** Throws an AssertionError when the backend behaves otherwise. */
  run(bench: import('./bench.js').Bench): Promise<void>;
}
