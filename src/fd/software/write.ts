import { type ByteOrder, HEADER_BYTES } from '../../htab/block.js';
import { HPTE_BYTES } from '../../htab/order.js';
import { pageShifts } from '../../htab/page-size.js';
import { htabFdError } from '../descriptor.js';
import type { EnterRefusal, KernelHpt } from './hpt.js';
import { VALID } from './page.js';
import type { Work } from './turns.js';

/** What one write does with several blocks; see {@link writeHtab}. */
export type BlocksPerWrite = (typeof BLOCKS_PER_WRITE)[number];

export const BLOCKS_PER_WRITE = ['documented', 'kernel'] as const;

export interface WriteOptions {
  readonly byteOrder: ByteOrder;
  readonly blocksPerWrite: BlocksPerWrite;
  /** Called for an entry of the virtual real mode area: KVM takes the MMU as set up from there on. */
  onVrma(): void;
}

/** Entries, pages of empty slots and blocks in one piece. */
const PIECE = 1 << 8;
const DOING = 'write to the HTAB fd';

/**
 * kvm_htab_write (arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1), from where it holds the lock.
 *
 * Block by block: the range first, then entry by entry. An entry without V or with an LP encoding
 * that KVM does not know is EINVAL before its slot is touched; otherwise what is in the slot is
 * removed, and then the entry may still be refused: EIO, with the slot empty. What was done before
 * an error stays, and the error hides how much that was.
 *
 * `kernel` has the kernel's two mistakes. The length check leaves out the header, so that up to 8
 * bytes behind `count` are read. And what was copied is counted, but the place in the buffer goes on
 * by the header alone: the next header is looked for in the entries just written.
 * `documented` (Documentation/virt/kvm/api.rst 4.78) takes block after block, whole ones only.
 *
 * @param bytes the caller's memory from its buffer on; beyond it is EFAULT
 * @param count bytes to write
 * @returns bytes taken; 0 for a block that does not end within `count`
 * @throws IoError `E_HTAB_FD`
 */
export function* writeHtab(
  hpt: KernelHpt,
  bytes: Uint8Array,
  count: number,
  options: WriteOptions,
): Work<number> {
  const kernel = options.blocksPerWrite === 'kernel';
  const little = options.byteOrder === 'little';
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { slots } = hpt;
  let nb = 0;
  let at = 0;
  let done = 0;
  const { pageSlots = 1 } = hpt.table ?? {};
  while (nb + HEADER_BYTES <= count) {
    if (at + HEADER_BYTES > bytes.length) throw fault();
    const index = view.getUint32(at, little);
    const nValid = view.getUint16(at + 4, little);
    const nInvalid = view.getUint16(at + 6, little);
    const header = kernel ? 0 : HEADER_BYTES;
    if (nb + header + nValid * HPTE_BYTES > count) break;
    nb += HEADER_BYTES;
    at += HEADER_BYTES;
    if (index >= slots || index + nValid + nInvalid > slots) {
      const words =
        slots === 0
          ? 'the guest has no HPT yet (KVM_PPC_ALLOCATE_HTAB)'
          : `a block reaches beyond the table: index ${index}, ${nValid} valid, ${nInvalid} invalid, in ${slots} slots`;
      throw htabFdError(DOING, 'EINVAL', words);
    }
    for (let j = 0; j < nValid; j++) {
      writeEntry(hpt, index + j, bytes, at + j * HPTE_BYTES, options);
      nb += HPTE_BYTES;
      if (++done >= PIECE) {
        done = 0;
        yield;
      }
    }
    const end = index + nValid + nInvalid;
    for (let from = index + nValid; from < end; ) {
      const to = Math.min(end, from + pageSlots);
      done += hpt.remove(from, to) + 1;
      from = to;
      if (done >= PIECE) {
        done = 0;
        yield;
      }
    }
    if (++done >= PIECE) {
      done = 0;
      yield;
    }
    if (!kernel) at += nValid * HPTE_BYTES;
  }
  return nb;
}

/** One entry of a block. @throws IoError `E_HTAB_FD` EINVAL, EIO, EFAULT */
export function writeEntry(
  hpt: KernelHpt,
  slot: number,
  bytes: Uint8Array,
  at: number,
  options: Pick<WriteOptions, 'onVrma'>,
): void {
  if (at + HPTE_BYTES > bytes.length) throw fault();
  if (((bytes[at + 7] ?? 0) & VALID) === 0) {
    throw htabFdError(DOING, 'EINVAL', `the entry for slot ${slot} is not valid (V is not set)`);
  }
  if (pageShifts(bytes, at) === undefined) {
    const words = `the entry for slot ${slot} has an LP encoding that KVM does not know`;
    throw htabFdError(DOING, 'EINVAL', words);
  }
  hpt.remove(slot, slot + 1);
  const refusal = hpt.enter(slot, bytes, at);
  if (refusal !== undefined) {
    throw htabFdError(
      DOING,
      'EIO',
      `the entry for slot ${slot} ${REFUSALS[refusal]}; the slot is empty now`,
    );
  }
  if (isVrma(bytes, at)) options.onVrma();
}

const REFUSALS: Record<EnterRefusal, string> = {
  'segment-size': 'has the reserved segment size B=0b1x',
  'page-size': 'has an LP encoding that KVM does not know',
  unaligned: 'maps a page that the memory slot does not hold as a whole',
  'too-large': "maps a page larger than the host's",
  occupied: 'has no free slot',
};

function fault(): Error {
  return htabFdError(DOING, 'EFAULT', 'the buffer ends before the bytes that are to be written');
}

/** is_vrma_hpte (arch/powerpc/include/asm/kvm_book3s_64.h): 1 TiB segment of VSID 0x1ffffff. */
function isVrma(bytes: Uint8Array, at: number): boolean {
  const vsid = [0x40, 0x01, 0xff, 0xff, 0xff];
  return vsid.every((byte, k) => bytes[at + k] === byte);
}
