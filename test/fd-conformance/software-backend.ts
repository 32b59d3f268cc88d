import { type BlocksPerWrite, HtabFd, IoError, SoftwareHtab } from '../../src/index.js';
import type {
  Answer,
  Backend,
  Fd,
  Feature,
  Host,
  MemorySlot,
  OpenArguments,
  Vm,
} from './backend.js';

/** A promise's result, or the errno that it failed with. */
export async function answer<T>(call: () => Promise<T> | T): Promise<Answer<T>> {
  try {
    return { value: await call() };
  } catch (error) {
    if (error instanceof IoError && error.actual !== undefined) return { errno: error.actual };
    throw error;
  }
}

/** The table in memory, in one of its two ways of taking several blocks in a write. */
export function softwareBackend(host: Host, writes: BlocksPerWrite): Backend {
  const features: Feature[] = ['open', 'vm', 'vcpu', 'little-endian'];
  features.push(writes === 'kernel' ? 'kernel-writes' : 'documented-writes');
  if (host === 'power9-radix') features.push('radix');
  return {
    name: `software (${host}, ${writes} writes)`,
    host,
    features: new Set(features),
    byteOrder: 'little',
    createVm: async () => new SoftwareVm(new SoftwareHtab({ host, blocksPerWrite: writes })),
  };
}

class SoftwareVm implements Vm {
  constructor(readonly htab: SoftwareHtab) {}

  allocate(order: number): Promise<Answer<number>> {
    return answer(() => {
      this.htab.allocate(order);
      return order;
    });
  }

  async setMemory(slots: readonly MemorySlot[]): Promise<void> {
    const hostPage = (huge: boolean): bigint | undefined => (huge ? undefined : 0x10000n);
    this.htab.setMemory(
      slots.map(({ base, size, huge }) => ({ base, size, hostPage: hostPage(huge) })),
    );
  }

  open({ flags = 0n, startIndex = 0n }: OpenArguments = {}): Promise<Answer<Fd>> {
    return answer(() => {
      const fd = this.htab.descriptor({ flags, startIndex });
      return {
        htabFd: new HtabFd(fd, fd.writable),
        read: (length: number, mapped?: number) => answer(() => fd.read(length, mapped)),
        write: (bytes: Uint8Array, count?: number) => answer(() => fd.write(bytes, count)),
        close: () => fd.close(),
      };
    });
  }

  setRadix(radix: boolean): Promise<Answer<number>> {
    return answer(() => {
      this.htab.setRadix(radix);
      return 0;
    });
  }

  async startVcpu(): Promise<void> {
    await this.htab.startVcpu();
  }

  async stopVcpu(): Promise<void> {
    this.htab.running = false;
  }

  async close(): Promise<void> {}
}
