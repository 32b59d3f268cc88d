import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

/** What a system call gave: what it is for, or the name of its errno. */
export type Answer<T extends object> =
  | (T & { readonly errno?: undefined })
  | ({ readonly errno: string } & { readonly [K in keyof T]?: undefined });

interface Raw {
  readonly result: number;
  readonly errno: number;
}
type Handle = object;

/** The addon of test/kernel/vm/. */
interface VmAddon {
  openKvm(): Raw;
  createVm(kvm: number, type: number): Raw;
  checkExtension(fd: number, extension: number): Raw;
  allocateHtab(vm: number, order: number): Raw & { order: number };
  setMemory(
    vm: number,
    slot: number,
    base: bigint,
    size: number,
    hugePages: boolean,
    touch: boolean,
  ): Raw & { memory?: Handle };
  configureV3Mmu(vm: number, flags: bigint, processTable: bigint): Raw;
  getHtabFd(vm: number, ...request: [] | [bigint, bigint, bigint, bigint]): Raw;
  startVcpu(kvm: number, vm: number, memory: Handle): Raw & { vcpu?: Handle };
  stopVcpu(vcpu: Handle): Raw & { ended: number; exitReason: number; rounds: bigint };
  read(fd: number, length: number, mapped: number): Raw & { memory?: Buffer };
  pread(fd: number, length: number, offset: number): Raw & { memory?: Buffer };
  write(fd: number, bytes: Uint8Array, count: number): Raw;
  lseek(fd: number, offset: number, whence: number): Raw;
  statusFlags(fd: number): Raw;
  descriptorFlags(fd: number): Raw;
  link(fd: number): Raw & { target?: string };
  close(fd: number): Raw;
  serveFd(fd: number, path: string): Raw;
}

let loaded: VmAddon | undefined;

function addon(): VmAddon {
  const path = process.env.SPAPR_HTAB_VM_ADDON;
  if (path === undefined) throw new Error('SPAPR_HTAB_VM_ADDON is not set: not inside a machine');
  loaded ??= createRequire(import.meta.url)(path) as VmAddon;
  return loaded;
}

function answer<R extends Raw, T extends object>(raw: R, value: (raw: R) => T): Answer<T> {
  if (raw.errno !== 0) return { errno: getSystemErrorName(-raw.errno) } as Answer<T>;
  return value(raw) as Answer<T>;
}

const nothing = (): object => ({});
const number = ({ result }: Raw): { readonly value: number } => ({ value: result });

/** /dev/kvm. */
export class Kvm {
  readonly fd: number;

  constructor() {
    const { result, errno } = addon().openKvm();
    if (errno !== 0) throw new Error(`/dev/kvm: ${getSystemErrorName(-errno)}`);
    this.fd = result;
  }

  /** KVM_CHECK_EXTENSION of the system. */
  checkExtension(extension: number): Answer<{ readonly value: number }> {
    return answer(addon().checkExtension(this.fd, extension), number);
  }

  /** @param type 0: whichever KVM there is, 1: HV, 2: PR (KVM_VM_PPC_…). Default 1. */
  createVm(type = 1): Answer<{ readonly vm: Vm }> {
    return answer(addon().createVm(this.fd, type), ({ result }) => ({ vm: new Vm(this, result) }));
  }

  /** A VM whose fd this process has: made here, or inherited. */
  vmOfFd(fd: number): Vm {
    return new Vm(this, fd);
  }

  close(): Answer<object> {
    return answer(addon().close(this.fd), nothing);
  }
}

export interface MemoryOptions {
  /** Default 0. */
  readonly slot?: number;
  /** Guest physical address. Default 0. */
  readonly base?: bigint;
  /** Bytes; 0 removes the slot. */
  readonly size: number;
  /** Aligned to 16 MiB and with MADV_HUGEPAGE, rather than MADV_NOHUGEPAGE. Default false. */
  readonly hugePages?: boolean;
  /** Written to (zeros), so that pages are there. Default false. */
  readonly touch?: boolean;
}

/** A VM without vCPUs until one is started. Its memory lasts as long as this object or an fd of it. */
export class Vm {
  readonly fd: number;
  readonly #kvm: Kvm;
  readonly #memory = new Map<number, Handle>();

  constructor(kvm: Kvm, fd: number) {
    this.#kvm = kvm;
    this.fd = fd;
  }

  /** KVM_CHECK_EXTENSION of the VM. */
  checkExtension(extension: number): Answer<{ readonly value: number }> {
    return answer(addon().checkExtension(this.fd, extension), number);
  }

  /** KVM_PPC_ALLOCATE_HTAB: the order that the kernel answers with. */
  allocate(order: number): Answer<{ readonly order: number }> {
    return answer(addon().allocateHtab(this.fd, order), (raw) => ({ order: raw.order }));
  }

  setMemory(options: MemoryOptions): Answer<object> {
    const { slot = 0, base = 0n, size, hugePages = false, touch = false } = options;
    const raw = addon().setMemory(this.fd, slot, base, size, hugePages, touch);
    if (raw.errno === 0 && raw.memory !== undefined) this.#memory.set(slot, raw.memory);
    return answer(raw, nothing);
  }

  /** KVM_PPC_CONFIGURE_V3_MMU. Flag 1: radix, 2: GTSE. */
  configureV3Mmu(flags: bigint, processTable: bigint): Answer<object> {
    return answer(addon().configureV3Mmu(this.fd, flags, processTable), nothing);
  }

  /**
   * KVM_PPC_GET_HTAB_FD with whatever is in `struct kvm_get_htab_fd`.
   *
   * @param flags 1: bolted only, 2: for writing (KVM_GET_HTAB_…)
   */
  open(
    flags = 0n,
    startIndex = 0n,
    reserved: readonly [bigint, bigint] = [0n, 0n],
  ): Answer<{ readonly htab: RawFd }> {
    return this.#htab(addon().getHtabFd(this.fd, flags, startIndex, ...reserved));
  }

  /** The same with a pointer to memory that is not there. */
  openBadPointer(): Answer<{ readonly htab: RawFd }> {
    return this.#htab(addon().getHtabFd(this.fd));
  }

  #htab(raw: Raw): Answer<{ readonly htab: RawFd }> {
    return answer(raw, ({ result }) => ({ htab: new RawFd(result, this) }));
  }

  /**
   * A vCPU that counts for ever, on a thread. Its program and its counter are put into the first page
   * of slot 0, which must be at address 0. When this returns, the guest has counted.
   */
  startVcpu(): Answer<{ readonly vcpu: Vcpu }> {
    const memory = this.#memory.get(0);
    if (memory === undefined) throw new Error('a vCPU needs the memory of slot 0');
    return answer(addon().startVcpu(this.#kvm.fd, this.fd, memory), ({ vcpu }) => {
      if (vcpu === undefined) throw new Error('no vCPU');
      return { vcpu: new Vcpu(vcpu) };
    });
  }

  /** Closes the VM fd; fds of its HTAB stay open. */
  close(): Answer<object> {
    return answer(addon().close(this.fd), nothing);
  }
}

export class Vcpu {
  readonly #handle: Handle;

  constructor(handle: Handle) {
    this.#handle = handle;
  }

  /** Ends it. `ended`: the errno of KVM_RUN, EINTR when nothing else had ended it before. */
  stop(): { readonly ended: string; readonly exitReason: number; readonly rounds: bigint } {
    const { ended, exitReason, rounds } = addon().stopVcpu(this.#handle);
    return { ended: ended === 0 ? '' : getSystemErrorName(-ended), exitReason, rounds };
  }
}

/** A descriptor, with the system calls as they are. */
export class RawFd {
  readonly fd: number;
  /** Keeps the VM's memory. */
  readonly vm: Vm | undefined;

  constructor(fd: number, vm?: Vm) {
    this.fd = fd;
    this.vm = vm;
  }

  /**
   * One read(2) of `length` bytes, of which only the first `mapped` can be stored. `memory` is all of
   * what was mapped, 0xAA where nothing was written, also where the read failed.
   */
  read(
    length: number,
    mapped = length,
  ): Answer<{ readonly bytes: Buffer }> & { readonly memory: Buffer } {
    const raw = addon().read(this.fd, length, mapped);
    const memory = raw.memory ?? Buffer.alloc(0);
    return { ...answer(raw, ({ result }) => ({ bytes: memory.subarray(0, result) })), memory };
  }

  /** One pread(2). */
  pread(length: number, offset: number): Answer<{ readonly bytes: Buffer }> {
    return answer(addon().pread(this.fd, length, offset), ({ result, memory }) => ({
      bytes: (memory ?? Buffer.alloc(0)).subarray(0, result),
    }));
  }

  /**
   * One write(2) of `count` bytes that begin with `memory`. Nothing is mapped behind it: a count above
   * its length makes the kernel run into that; one below leaves the rest where the kernel may read it.
   */
  write(memory: Uint8Array, count = memory.length): Answer<{ readonly count: number }> {
    return answer(addon().write(this.fd, memory, count), ({ result }) => ({ count: result }));
  }

  /** @param whence 0: SEEK_SET, 1: SEEK_CUR, 2: SEEK_END */
  lseek(offset: number, whence: 0 | 1 | 2): Answer<{ readonly value: number }> {
    return answer(addon().lseek(this.fd, offset, whence), number);
  }

  /** fcntl F_GETFL. */
  statusFlags(): Answer<{ readonly value: number }> {
    return answer(addon().statusFlags(this.fd), number);
  }

  /** fcntl F_GETFD. */
  descriptorFlags(): Answer<{ readonly value: number }> {
    return answer(addon().descriptorFlags(this.fd), number);
  }

  /** What /proc/self/fd/N points to. */
  link(): Answer<{ readonly target: string }> {
    return answer(addon().link(this.fd), ({ target }) => ({ target: target ?? '' }));
  }

  /**
   * Sends a duplicate (SCM_RIGHTS) to whoever is first to connect to a Unix socket, which is listening
   * when this returns. `@` in front: an abstract name. Otherwise the file stays.
   */
  serve(path: string): Answer<object> {
    return answer(addon().serveFd(this.fd, path), nothing);
  }

  close(): Answer<object> {
    return answer(addon().close(this.fd), nothing);
  }
}
