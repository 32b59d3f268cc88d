import { type ErrorCode, type ErrorDetails, IoError } from '../errors.js';
import type { HtabBlock } from '../htab/block.js';
import { FLAG_VALID, FLAGS_BYTE } from '../htab/hpte.js';
import { HPTE_BYTES } from '../htab/order.js';
import { pageShifts } from '../htab/page-size.js';

/** What was written: whole blocks, their entries and emptied slots, and their bytes. */
export interface Applied {
  readonly blocks: number;
  readonly valid: number;
  readonly invalid: number;
  readonly bytes: number;
}

/** The block that was not taken, without its entries. */
export type RefusedBlock = Omit<HtabBlock, 'entries'>;

/**
 * A write(2) to the HTAB fd failed. Blocks before the refused one are in the table, and of the
 * refused one, entries up to the one that is at fault may be.
 */
export class HtabWriteError extends IoError {
  /** Name of the errno: `EBUSY`. */
  readonly errno: string;
  readonly block: RefusedBlock;
  readonly applied: Applied;

  /** @internal */
  constructor(
    code: ErrorCode,
    message: string,
    details: ErrorDetails,
    facts: { errno: string; block: RefusedBlock; applied: Applied },
  ) {
    super(code, message, details);
    this.errno = facts.errno;
    this.block = facts.block;
    this.applied = facts.applied;
  }

  override toJSON(): Record<string, unknown> {
    const { errno, block, applied } = this;
    return { ...super.toJSON(), errno, block, applied };
  }
}

/** @param offset where the block stands in what was to be written */
export function writeRefused(
  errno: string,
  block: HtabBlock,
  applied: Applied,
  offset: number,
): HtabWriteError {
  const { index, nValid, nInvalid } = block;
  const which = `block ${applied.blocks} (slot ${index}, ${nValid} valid, ${nInvalid} invalid)`;
  const before = `after ${applied.blocks} blocks with ${applied.valid} entries were written`;
  const message = `${which} was refused ${before}: ${likelyCause(errno, block)}`;
  const details = { offset, path: 'HTAB fd', actual: errno };
  const facts = { errno, block: { index, nValid, nInvalid }, applied };
  return new HtabWriteError('E_HTAB_FD', message, details, facts);
}

/**
 * Why the kernel refuses a block, as far as it can be told from here (kvm_htab_write of
 * arch/powerpc/kvm/book3s_64_mmu_hv.c and kvmppc_do_h_enter of book3s_hv_rm_mmu.c, Linux 6.1).
 */
function likelyCause(errno: string, block: HtabBlock): string {
  switch (errno) {
    case 'EBUSY':
      return 'a vCPU of the guest is running; stop the guest first';
    case 'EINVAL':
      return invalid(block);
    case 'EIO':
      return (
        'an entry cannot be entered into this VM: its segment size is reserved, or its page is ' +
        "larger than the memory slot's alignment or than the host's own pages"
      );
    case 'EBADF':
      return 'the fd was opened for reading, or is closed';
    case 'EPROTO':
      return 'the kernel took another number of bytes than the block has';
    case 'EFAULT':
      return 'the kernel could not read the block';
    default:
      return 'the kernel gives no reason';
  }
}

function invalid({ index, nValid, nInvalid, entries }: HtabBlock): string {
  for (let i = 0; i < nValid; i++) {
    const at = i * HPTE_BYTES;
    const kept = i === 0 ? '' : `; the ${i} before it in this block were written`;
    if (((entries[at + FLAGS_BYTE] ?? 0) & FLAG_VALID) === 0) {
      return `the entry for slot ${index + i} is not valid (no V bit)${kept}`;
    }
    if (pageShifts(entries, at) === undefined) {
      return `the entry for slot ${index + i} has a page size that KVM does not know${kept}`;
    }
  }
  return (
    `it reaches beyond the VM's table (${index + nValid + nInvalid} slots would be needed), ` +
    'or the VM has no HPT: none was allocated, or its guest is in radix mode'
  );
}
