/**
 * One hash page table entry (HPTE): two big-endian doublewords, always in the layout of before
 * ISA 3.0, on the HTAB fd and in a QEMU stream alike (target/ppc/mmu-hash64.h;
 * arch/powerpc/include/asm/book3s/64/mmu-hash.h).
 */

/** Valid. */
export const HPTE_V_VALID = 0x1n;
/** In its secondary PTEG. */
export const HPTE_V_SECONDARY = 0x2n;
/** Larger than 4 KiB: the LP field of DW1 holds the page size. */
export const HPTE_V_LARGE = 0x4n;
/** Linux keeps such an entry when it evicts; the filter of KVM_GET_HTAB_BOLTED_ONLY. */
export const HPTE_V_BOLTED = 0x10n;
/** KVM: the host has no page for it. Never seen by a guest. */
export const HPTE_V_ABSENT = 0x20n;
/** KVM: lock bit, set in every entry that the HTAB fd returns. QEMU under TCG: dirty mark. */
export const HPTE_V_HVLOCK = 0x40n;
/** Bits of DW0 that belong to the hypervisor and mean nothing in a stored table. */
export const HPTE_V_SOFTWARE = HPTE_V_ABSENT | HPTE_V_HVLOCK;
/** Bit of DW1 that belongs to the hypervisor: KVM's "modified" mark. */
export const HPTE_R_SOFTWARE = 0x4000000000000000n;

/** One entry of a table with its place. */
export interface Hpte {
  /** Slot number (PTEX), below 2^42. The PTEG is `index >> 3`. */
  readonly index: number;
  /** First doubleword: B, AVPN, software bits, L, H, V. */
  readonly dw0: bigint;
  /** Second doubleword: protection, key, RPN with LP, R, C, WIMG, N. */
  readonly dw1: bigint;
}

/*
 * For loops over bytes: all the flags above stand in the last byte of DW0, KVM's mark in the first
 * byte of DW1. Offsets are relative to the entry.
 */
export const FLAGS_BYTE = 7;
export const FLAG_VALID = 0x01;
export const FLAG_SECONDARY = 0x02;
export const FLAG_LARGE = 0x04;
export const FLAG_BOLTED = 0x10;
export const FLAGS_SOFTWARE = 0x60;
export const DW1_BYTE = 8;
export const DW1_SOFTWARE = 0x40;

/** Whether all 16 bytes of the entry at `at` are zero: an empty slot. */
export function isZeroEntry(bytes: Uint8Array, at: number): boolean {
  for (let i = at; i < at + 16; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Clears the hypervisor's bits of the entry at `at`, in place. */
export function clearSoftwareBits(bytes: Uint8Array, at: number): void {
  bytes[at + FLAGS_BYTE] = (bytes[at + FLAGS_BYTE] ?? 0) & ~FLAGS_SOFTWARE;
  bytes[at + DW1_BYTE] = (bytes[at + DW1_BYTE] ?? 0) & ~DW1_SOFTWARE;
}
