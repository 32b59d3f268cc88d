import { IoError } from '../../errors.js';
import { type ByteOrder, HEADER_BYTES } from '../../htab/block.js';
import { HPTE_BYTES } from '../../htab/order.js';
import { checkChoice, checkLength, checkU64 } from '../arguments.js';
import {
  type BlocksWritten,
  type HtabDescriptor,
  type HtabOpenOptions,
  htabFdError,
  KVM_GET_HTAB_BOLTED_ONLY,
  KVM_GET_HTAB_WRITE,
} from '../descriptor.js';
import { type ReadContext, readHtab } from './read.js';
import type { VmState } from './state.js';
import type { Work } from './turns.js';
import { writeHtab } from './write.js';

export interface SoftwareOpenOptions extends HtabOpenOptions {
  /** `flags` of struct kvm_get_htab_fd as they are, in place of `write` and `boltedOnly`. */
  readonly flags?: bigint | undefined;
  /** Byte order of this descriptor's headers. Default: that of the host. */
  readonly byteOrder?: ByteOrder | undefined;
}

export const BYTE_ORDERS: readonly ByteOrder[] = ['little', 'big'];

/** Most bytes of one read or write: MAX_RW_COUNT (fs/read_write.c) with pages of 64 KiB. */
const MAX_RW_COUNT = 0x7fff0000;
/** End of a process' addresses, TASK_SIZE_4PB: no buffer is that long (access_ok). */
const TASK_SIZE = 2 ** 52;

const READ = 'read the HTAB fd';
const WRITE = 'write to the HTAB fd';

/**
 * A software HTAB fd. Calls are carried out in the order in which they were made on any descriptor
 * of the VM; a short one within the call, while there is time. It outlives the {@link SoftwareHtab} it comes from.
 */
export class SoftwareDescriptor implements HtabDescriptor {
  readonly backend = 'software';
  readonly byteOrder: ByteOrder;
  readonly #vm: VmState;
  /** Whether it was opened to be written. */
  readonly writable: boolean;
  readonly #context: ReadContext;
  #closed: Promise<void> | undefined;

  /**
   * @internal kvm_vm_ioctl_get_htab_fd (arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1). It is
   *   granted whatever the MMU mode, with or without an HPT, and wherever `startIndex` is.
   */
  constructor(vm: VmState, options: SoftwareOpenOptions) {
    const { write = false, boltedOnly = false, startIndex = 0n } = options;
    const flags =
      options.flags ??
      (boltedOnly ? KVM_GET_HTAB_BOLTED_ONLY : 0n) + (write ? KVM_GET_HTAB_WRITE : 0n);
    checkU64('startIndex', startIndex);
    checkU64('flags', flags);
    if (options.byteOrder !== undefined) checkChoice('byteOrder', options.byteOrder, BYTE_ORDERS);
    if ((flags & ~(KVM_GET_HTAB_BOLTED_ONLY | KVM_GET_HTAB_WRITE)) !== 0n) {
      const words = `flags 0x${flags.toString(16)} has bits that KVM does not know`;
      throw htabFdError('open the HTAB fd', 'EINVAL', words);
    }
    this.#vm = vm;
    this.byteOrder = options.byteOrder ?? vm.byteOrder;
    this.writable = (flags & KVM_GET_HTAB_WRITE) !== 0n;
    this.#context = {
      boltedOnly: (flags & KVM_GET_HTAB_BOLTED_ONLY) !== 0n,
      byteOrder: this.byteOrder,
      index: Number(startIndex),
      firstPass: true,
    };
    if (!this.writable) vm.hpt.readers++;
  }

  /**
   * One read(2): whole blocks, or none at the end of a pass.
   * @param length bytes asked for; 24 or less give none
   * @param mapped how many bytes of the caller's buffer exist, if not all: a copy beyond is EFAULT,
   *   and in a later pass what was taken until then is lost
   * @throws IoError `E_HTAB_FD`: EBADF on a descriptor for writing, EFAULT; `E_IO` EBADF once closed
   */
  async read(length: number, mapped = length): Promise<Uint8Array> {
    checkLength(length);
    checkLength(mapped);
    return await this.#run(READ, this.#read(length, mapped));
  }

  *#read(length: number, mapped: number): Work<Uint8Array> {
    if (this.writable) throw htabFdError(READ, 'EBADF', 'the descriptor was opened for writing');
    if (length >= TASK_SIZE) throw readFault();
    if (this.#vm.radix) return new Uint8Array(0);
    const count = Math.min(length, MAX_RW_COUNT);
    const bytes = yield* readHtab(this.#vm.hpt, this.#context, count, mapped);
    if (bytes === undefined) throw readFault();
    return bytes;
  }

  /**
   * One write(2).
   * @param bytes the caller's memory from its buffer on
   * @param count bytes to write, if not all of them; more than there are is EFAULT where the kernel
   *   gets that far
   * @returns bytes taken
   * @throws IoError `E_HTAB_FD`: EBADF, EINVAL, EIO, EBUSY, EFAULT; `E_IO` EBADF once closed
   */
  async write(bytes: Uint8Array, count = bytes.length): Promise<number> {
    checkLength(count);
    return await this.#run(WRITE, this.#write(new Uint8Array(bytes), count));
  }

  *#write(bytes: Uint8Array, count: number): Work<number> {
    if (!this.writable) throw htabFdError(WRITE, 'EBADF', 'the descriptor was opened for reading');
    if (count >= TASK_SIZE) throw htabFdError(WRITE, 'EFAULT', 'no buffer is that long');
    this.#vm.checkWritable();
    const onVrma = (): void => this.#vm.mmuSetUp();
    const { byteOrder } = this;
    const { blocksPerWrite } = this.#vm;
    const options = { byteOrder, blocksPerWrite, onVrma };
    return yield* writeHtab(this.#vm.hpt, bytes, Math.min(count, MAX_RW_COUNT), options);
  }

  /**
   * Writes whole blocks, one write(2) each, up to the first that fails. A block that does not end
   * within `bytes` is not handed over: EINVAL.
   * @throws IoError `E_IO` EBADF once closed
   */
  async writeBlocks(bytes: Uint8Array): Promise<BlocksWritten> {
    return await this.#run(WRITE, this.#writeBlocks(new Uint8Array(bytes)));
  }

  *#writeBlocks(bytes: Uint8Array): Work<BlocksWritten> {
    const view = new DataView(bytes.buffer);
    let blocks = 0;
    let at = 0;
    while (at < bytes.length) {
      const whole = at + HEADER_BYTES <= bytes.length;
      const nValid = whole ? view.getUint16(at + 4, this.byteOrder === 'little') : 0;
      const next = at + HEADER_BYTES + nValid * HPTE_BYTES;
      if (next > bytes.length) return { blocks, bytes: at, errno: 'EINVAL' };
      try {
        yield* this.#write(bytes.subarray(at, next), next - at);
      } catch (error) {
        const errno = error instanceof IoError ? error.actual : undefined;
        if (errno === undefined) throw error;
        return { blocks, bytes: at, errno };
      }
      at = next;
      blocks++;
      if (blocks % 64 === 0) yield;
    }
    return { blocks, bytes: at, errno: undefined };
  }

  /**
   * pread(2), which the fd does not have (its file is opened without FMODE_PREAD).
   * @throws IoError `E_HTAB_FD` ESPIPE
   */
  async pread(length: number, position: number): Promise<Uint8Array> {
    checkLength(length);
    checkLength(position);
    if (this.#closed !== undefined) throw closed('read at a position of the HTAB fd');
    throw htabFdError('read at a position of the HTAB fd', 'ESPIPE', 'it has no positions');
  }

  /** Waits for calls in flight. With the last descriptor for reading, changes are no longer marked. */
  close(): Promise<void> {
    if (this.#closed === undefined) {
      const { hpt } = this.#vm;
      const reads = !this.writable;
      // biome-ignore lint/correctness/useYield: it has one step.
      function* release(): Work<void> {
        if (reads) hpt.readers--;
      }
      this.#closed = this.#vm.turns.run(release());
    }
    return this.#closed;
  }

  #run<T>(doing: string, work: Work<T>): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(closed(doing));
    return this.#vm.turns.run(work);
  }
}

function readFault(): IoError {
  return htabFdError(READ, 'EFAULT', 'the buffer ends before the bytes that are to be read');
}

function closed(doing: string): IoError {
  return new IoError('E_IO', `cannot ${doing}: it is closed`, { actual: 'EBADF' });
}
