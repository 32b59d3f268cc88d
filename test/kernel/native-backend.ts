import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { getSystemErrorName } from 'node:util';
import { loadAddon, type NativeFile, type NativeHtab } from '../../src/addon/load.js';
import { HtabFd } from '../../src/fd/htab-fd.js';
import { NativeDescriptor } from '../../src/fd/native-descriptor.js';
import type {
  Answer,
  Backend,
  ChildCall,
  Fd,
  Feature,
  Host,
  MemorySlot,
  OpenArguments,
  SystemCalls,
  Vm,
  VmCall,
} from '../fd-conformance/backend.js';
import { answer } from '../fd-conformance/software-backend.js';
import { Kvm, type Vm as KvmVm, type MemoryOptions, RawFd, type Vcpu } from './vm.js';

/** KVM_PPC_MMUV3_RADIX with GTSE, and a process table of a radix guest. */
const RADIX = [3n, (1n << 63n) | 8n] as const;

/** The kernel that this runs on: VMs of KVM, and their fds through the package's own addon. */
export function nativeBackend(host: Host, kvm = new Kvm()): Backend {
  const { addon, failure } = loadAddon();
  const htab = addon?.htab;
  if (addon === undefined || htab === undefined) throw new Error(`no addon: ${String(failure)}`);
  const features: Feature[] = ['open', 'vm', 'vcpu', 'system', 'kernel-writes', 'little-endian'];
  if (host === 'power9-radix') features.push('radix');
  return {
    name: `native (${host})`,
    host,
    features: new Set(features),
    byteOrder: 'little',
    system: systemCalls(kvm, () => addon.probe()),
    createVm: async () => {
      const { vm, errno } = kvm.createVm();
      if (vm === undefined) throw new Error(`KVM_CREATE_VM: ${errno}`);
      return new NativeVm(vm, htab);
    },
  };
}

class NativeVm implements Vm {
  #vcpu: Vcpu | undefined;
  #slots = 0;
  #closed = false;

  constructor(
    readonly vm: KvmVm,
    readonly htab: NativeHtab,
  ) {}

  get number(): number {
    return this.vm.fd;
  }

  async allocate(order: number): Promise<Answer<number>> {
    const { order: given, errno } = this.vm.allocate(order);
    return errno === undefined ? { value: given } : { errno };
  }

  async setMemory(slots: readonly MemorySlot[]): Promise<void> {
    for (let slot = 0; slot < this.#slots; slot++) this.#setSlot({ slot, size: 0 });
    this.#slots = slots.length;
    slots.forEach(({ base, size, huge }, slot) => {
      this.#setSlot({ slot, base, size: Number(size), hugePages: huge, touch: true });
    });
  }

  #setSlot(memory: MemoryOptions): void {
    const { errno } = this.vm.setMemory(memory);
    if (errno !== undefined) throw new Error(`KVM_SET_USER_MEMORY_REGION: ${errno}`);
  }

  async open({ flags = 0n, startIndex = 0n }: OpenArguments = {}): Promise<Answer<Fd>> {
    const { file, errno } = await this.htab.open(this.vm.fd, flags, startIndex);
    if (file === undefined) return { errno: getSystemErrorName(-errno) };
    const descriptor = new NativeDescriptor(file);
    const raw = new RawFd(file.fd, this.vm);
    return {
      value: {
        number: file.fd,
        htabFd: new HtabFd(descriptor, (flags & 2n) !== 0n),
        read: async (length, mapped = length) => {
          // What no careful program does is not done through the addon.
          if (length > 0 && mapped === length) return answer(() => descriptor.read(length));
          const { bytes, errno: failed } = raw.read(length, mapped);
          return failed === undefined ? { value: bytes } : { errno: failed };
        },
        write: async (bytes, count = bytes.length) => {
          if (count === bytes.length) return answer(() => descriptor.write(bytes));
          const { count: taken, errno: failed } = raw.write(bytes, count);
          return failed === undefined ? { value: taken } : { errno: failed };
        },
        close: () => descriptor.close(),
      },
    };
  }

  async setRadix(radix: boolean): Promise<Answer<number>> {
    const [flags, table] = radix ? RADIX : [0n, 0n];
    const { errno } = this.vm.configureV3Mmu(flags, table);
    return errno === undefined ? { value: 0 } : { errno };
  }

  async startVcpu(): Promise<void> {
    const { vcpu, errno } = this.vm.startVcpu();
    if (vcpu === undefined) throw new Error(`no vCPU: ${errno}`);
    this.#vcpu = vcpu;
  }

  async stopVcpu(): Promise<void> {
    this.#vcpu?.stop();
    this.#vcpu = undefined;
  }

  async close(): Promise<void> {
    await this.stopVcpu();
    if (!this.#closed) this.vm.close();
    this.#closed = true;
  }
}

function systemCalls(kvm: Kvm, probe: SystemCalls['probe']): SystemCalls {
  const vmOf = (fd: number): KvmVm => kvm.vmOfFd(fd);
  return {
    probe,
    checkExtension: (vm, extension) => vmOf(vm).checkExtension(extension),
    getHtabFd: (vm, reserved) => {
      const bad = reserved === 'bad pointer';
      const { htab, errno } = bad ? vmOf(vm).openBadPointer() : vmOf(vm).open(0n, 0n, reserved);
      return htab === undefined ? { errno: errno ?? '' } : { value: htab.fd };
    },
    link: (fd) => new RawFd(fd).link().target ?? '',
    statusFlags: (fd) => new RawFd(fd).statusFlags().value ?? -1,
    descriptorFlags: (fd) => new RawFd(fd).descriptorFlags().value ?? -1,
    lseek: (fd, offset) => new RawFd(fd).lseek(offset, 0),
    pread: (fd, length, position) => {
      const { bytes, errno } = new RawFd(fd).pread(length, position);
      return bytes === undefined ? { errno: errno ?? '' } : { value: bytes.length };
    },
    close: (fd) => void new RawFd(fd).close(),
    inChild,
  };
}

/** The word that makes the program its own child. */
export const CHILD = '--child';

async function inChild(
  fds: readonly number[],
  calls: readonly ChildCall[],
): Promise<readonly string[]> {
  const child = spawn(process.execPath, [process.argv[1] ?? '', CHILD, JSON.stringify(calls)], {
    stdio: ['ignore', 'pipe', 'inherit', ...fds],
  });
  const said = text(child.stdout as NodeJS.ReadableStream);
  const [status] = await once(child, 'exit');
  if (status !== 0) throw new Error(`the child ended with ${status}`);
  return JSON.parse(await said) as string[];
}

/** What the child does. */
export function answerAsChild(json: string): void {
  const calls = JSON.parse(json) as ChildCall[];
  const kvm = new Kvm();
  const answers = calls.map((call) => {
    if (call.call !== 'read' && call.call !== 'write') return askVm(kvm, call);
    const fd = new RawFd(call.fd);
    if (call.call === 'read') {
      const { bytes, errno } = fd.read(call.length);
      return errno ?? bytes?.toString('hex');
    }
    const { count, errno } = fd.write(Buffer.from(call.hex, 'hex'));
    return errno ?? String(count);
  });
  process.stdout.write(JSON.stringify(answers));
}

function askVm(kvm: Kvm, call: VmCall): string {
  if (call.of === undefined) return answerOfVm(kvm.vmOfFd(call.fd), call);
  const taken = takenFromParent(call.fd);
  try {
    return answerOfVm(kvm.vmOfFd(taken.fd), call);
  } finally {
    taken.close();
  }
}

function answerOfVm(vm: KvmVm, call: VmCall): string {
  switch (call.call) {
    case 'getHtabFd': {
      const { htab, errno } = vm.open();
      return errno ?? `fd ${htab?.fd}`;
    }
    case 'checkExtension': {
      const { value, errno } = vm.checkExtension(call.extension);
      return errno ?? `extension ${value}`;
    }
    case 'allocate': {
      const { order, errno } = vm.allocate(call.order);
      return errno ?? `order ${order}`;
    }
  }
}

function takenFromParent(fd: number): NativeFile {
  const { addon, failure } = loadAddon();
  if (addon?.htab === undefined) throw new Error(`no addon: ${String(failure)}`);
  const { file, errno } = addon.htab.take(process.ppid, fd);
  if (file === undefined) throw new Error(`pidfd_getfd: ${getSystemErrorName(-errno)}`);
  return file;
}
