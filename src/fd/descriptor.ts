import { IoError } from '../errors.js';
import type { ByteOrder } from '../htab/block.js';

/** KVM_GET_HTAB_BOLTED_ONLY and KVM_GET_HTAB_WRITE (include/uapi/linux/kvm.h). */
export const KVM_GET_HTAB_BOLTED_ONLY = 1n;
export const KVM_GET_HTAB_WRITE = 2n;

/**
 * Fewest bytes that a read may ask for: the kernel returns a block only where a header, an entry and
 * one byte more fit (kvm_htab_read of arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1). Less gives 0,
 * which would look like the end of a pass.
 */
export const MIN_READ_BYTES = 25;

export type HtabBackend = 'native' | 'software' | 'replay';

/** Which HTAB fd is asked for: `struct kvm_get_htab_fd`. */
export interface HtabOpenOptions {
  /** An fd that takes blocks rather than one that gives them. Default false. */
  readonly write?: boolean | undefined;
  /** Only entries with the bolted bit; others are reported as invalid. Default false. */
  readonly boltedOnly?: boolean | undefined;
  /** Slot at which the first pass begins, u64. Default 0. */
  readonly startIndex?: bigint | undefined;
}

/** What became of several blocks that were written one by one. */
export interface BlocksWritten {
  /** Blocks that were taken whole. */
  readonly blocks: number;
  /** Their bytes; where the failing block begins, if one failed. */
  readonly bytes: number;
  /** Name of the error that ended it, as of errno(3): `EBUSY`. Undefined when all were taken. */
  readonly errno: string | undefined;
}

/**
 * An HTAB fd as the system calls show it: read(2), write(2), close(2). {@link HtabFd} is built on
 * it; what the kernel does in which case is in docs/htab-fd.md.
 *
 * Calls on one descriptor are carried out one after another, in the order in which they were made.
 */
export interface HtabDescriptor {
  readonly backend: HtabBackend;
  /** Byte order of block headers: the host's. Entries are big-endian in either. */
  readonly byteOrder: ByteOrder;
  /**
   * Whether only a read of nothing ends a pass, and a lower slot does not: so it is with recordings,
   * whose parts may go back. Default false, as of the kernel, which begins again without a word.
   */
  readonly passesEndWithNothing?: boolean | undefined;
  /**
   * One read(2) of `length` bytes: whole blocks, or none at the end of a pass.
   * @throws IoError `E_HTAB_FD` with the errno's name in `actual`; `E_IO` EBADF once it is closed
   */
  read(length: number): Promise<Uint8Array>;
  /**
   * One write(2): what it returned. More than one block at a time is not safe on a real kernel.
   * @throws IoError as `read`
   */
  write(bytes: Uint8Array): Promise<number>;
  /** Writes whole blocks, headers in `byteOrder`, one write(2) each, up to the first that fails. */
  writeBlocks(bytes: Uint8Array): Promise<BlocksWritten>;
  /** Waits for calls in flight. May be called again. */
  close(): Promise<void>;
}

/** An errno of the HTAB fd as an error. `doing` as in "cannot read …". */
export function htabFdError(doing: string, errno: string, words: string): IoError {
  return new IoError('E_HTAB_FD', `cannot ${doing}: ${words}`, { actual: errno });
}
