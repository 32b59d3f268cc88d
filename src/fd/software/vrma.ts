import { HPTE_BYTES } from '../../htab/order.js';
import type { KernelHpt } from './hpt.js';
import type { Work } from './turns.js';

const VSID = 0x1ffffffn;
/** HPTE_V_1TB_SEG, the VSID, HPTE_V_BOLTED and HPTE_V_LARGE. */
const DW0 = 0x4000000000000000n | (VSID << 24n) | 0x14n;
/** 64 KiB page, R, C and M; PP_RWXX. */
const DW1 = 0x1190n;
const PAGE = 0x10000n;
const PIECE = 1 << 8;

/**
 * The entries for the virtual real mode area that KVM makes when a vCPU is about to run and the MMU
 * is not set up: kvmppc_map_vrma (arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1), one in slot 7 of
 * a PTEG, up to the first slot that is taken. Pages of 64 KiB, as for all memory but hugetlbfs.
 * @param memory pages of 64 KiB of the memory slot at 0
 */
export function* mapVrma(hpt: KernelHpt, memory: number): Work<void> {
  const ptegs = hpt.slots / 8;
  // No more than 1 TiB, and one entry a PTEG.
  const pages = Math.min(memory, 2 ** 24, ptegs);
  const mask = BigInt(ptegs) - 1n;
  const hash = VSID ^ (VSID << 25n);
  const entry = new Uint8Array(HPTE_BYTES);
  const view = new DataView(entry.buffer);
  for (let i = 0; i < pages; i++) {
    const address = BigInt(i) * PAGE;
    view.setBigUint64(0, DW0 | ((address >> 16n) & ~0x7fn));
    view.setBigUint64(8, DW1 | address);
    const pteg = Number((BigInt(i) ^ hash) & mask);
    if (hpt.enter(pteg * 8 + 7, entry, 0) !== undefined) return;
    if ((i + 1) % PIECE === 0) yield;
  }
}
