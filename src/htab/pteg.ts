import { FLAG_SECONDARY, FLAGS_BYTE } from './hpte.js';
import { pageShifts } from './page-size.js';

/*
 * Where an entry stands. A table of order n has 2^(n-7) groups of eight slots (PTEGs). The hash of
 * a virtual page modulo that number is its primary PTEG; the secondary one, for entries with H, is
 * the complement (target/ppc/mmu-hash64.c ppc_hash64_htab_lookup;
 * arch/powerpc/include/asm/book3s/64/mmu-hash.h hpt_hash, where the hash has 39 bits).
 *
 *   256 MiB segments: VSID ^ (offset >> base page shift)
 *   1 TiB segments:   VSID ^ (VSID << 25) ^ (offset >> base page shift)
 *
 * An entry holds the VSID and the bits of the offset from 2^23 up. The lower ones, 11 at most,
 * follow from the number of its PTEG, as the smallest table has 2^11 of them. So the whole hash is
 * known from an entry and its slot.
 *
 * A hash has 39 bits and a slot number at most 42: both are exact as a `number`. The arithmetic is on
 * halves of 32 and 7 bits.
 */

/** Slots of one PTEG. */
export const PTEG_SLOTS = 8;

/** B is neither of the two segment sizes: KVM makes no such entry (kvmppc_do_h_enter, EIO of a write). */
export const BAD_SEGMENT = -1;
/** The page size is none that KVM knows. */
export const BAD_PAGE_SIZE = -2;
/** The entry stands in another PTEG than the one that its hash and its H bit say. */
export const MISPLACED = -3;

const HIGH = 0x7f;

/**
 * Hash of the page that an entry maps, modulo 2^39; or BAD_SEGMENT, BAD_PAGE_SIZE, MISPLACED.
 *
 * What the kernel does when it resizes a table (arch/powerpc/kvm/book3s_64_mmu_hv.c
 * resize_hpt_rehash_hpte, Linux 4.16) and QEMU after it (hw/ppc/spapr_vhyp_mmu.c rehash_hpte, 9.1),
 * with a check that they lack: there, the bits that the PTEG implies are ORed over those of the entry, so that most
 * misplaced entries seem to stand where they belong. Here the bits that an entry has itself must be
 * the same as those that its PTEG implies, and where it has none they must be zero.
 *
 * @param bytes big-endian entry at `at`
 * @param index its slot number, within a table of that order
 */
export function hashOf(bytes: Uint8Array, at: number, index: number, order: number): number {
  const b0 = bytes[at] ?? 0;
  if (b0 & 0x80) return BAD_SEGMENT;
  const base = pageShifts(bytes, at)?.base;
  if (base === undefined) return BAD_PAGE_SIZE;

  const b1 = bytes[at + 1] ?? 0;
  const b2 = bytes[at + 2] ?? 0;
  const b3 = bytes[at + 3] ?? 0;
  const b4 = bytes[at + 4] ?? 0;
  const b5 = bytes[at + 5] ?? 0;
  const b6 = bytes[at + 6] ?? 0;
  const flags = bytes[at + FLAGS_BYTE] ?? 0;

  // The hash but for the offset below 2^23. AVPN begins at bit 7 of DW0 and stands for 2^23.
  let low: number;
  let high: number;
  let offset: number;
  if (b0 & 0x40) {
    // 1 TiB: the VSID begins at bit 24.
    low = (b1 << 24) | (b2 << 16) | (b3 << 8) | b4;
    high = ((low >>> 7) ^ (b0 & 0x3f)) & HIGH;
    low ^= low << 25;
    offset = (b5 << 9) | (b6 << 1) | (flags >> 7);
  } else {
    // 256 MiB: it begins at bit 12, and has 50 bits.
    low = (b2 << 28) | (b3 << 20) | (b4 << 12) | (b5 << 4) | (b6 >> 4);
    high = ((b1 << 4) | (b2 >> 4)) & HIGH;
    offset = ((b6 & 0xf) << 1) | (flags >> 7);
  }
  low ^= base < 23 ? offset << (23 - base) : offset >> (base - 23);

  // What the PTEG says, as a hash: an entry with H stands in the complement.
  const invert = flags & FLAG_SECONDARY ? -1 : 0;
  const pteg = Math.floor(index / PTEG_SLOTS);
  const wrongLow = (low ^ pteg ^ invert) & maskLow(order);
  const wrongHigh = (high ^ (pteg / 2 ** 32) ^ invert) & maskHigh(order);
  const implied = base < 23 ? (1 << (23 - base)) - 1 : 0;
  if ((wrongLow & ~implied) !== 0 || wrongHigh !== 0) return MISPLACED;
  return high * 2 ** 32 + ((low ^ wrongLow) >>> 0);
}

/**
 * The slot of an entry in a table of another order, at the same place of its PTEG; or BAD_SEGMENT,
 * BAD_PAGE_SIZE, MISPLACED. The same slot number when `to` is `from`.
 */
export function slotInOrder(
  bytes: Uint8Array,
  at: number,
  index: number,
  from: number,
  to: number,
): number {
  const hash = hashOf(bytes, at, index, from);
  if (hash < 0) return hash;
  const secondary = ((bytes[at + FLAGS_BYTE] ?? 0) & FLAG_SECONDARY) !== 0;
  return ptegOf(hash, secondary, to) * PTEG_SLOTS + (index % PTEG_SLOTS);
}

/** The PTEG of a hash in a table of that order. */
export function ptegOf(hash: number, secondary: boolean, order: number): number {
  const invert = secondary ? -1 : 0;
  const low = (hash ^ invert) & maskLow(order);
  const high = ((hash / 2 ** 32) ^ invert) & maskHigh(order);
  return high * 2 ** 32 + (low >>> 0);
}

/** The bits of a hash that a table of that order uses, below 2^32 and above. */
function maskLow(order: number): number {
  return order >= 39 ? -1 : (1 << (order - 7)) - 1;
}

function maskHigh(order: number): number {
  return order <= 39 ? 0 : (1 << (order - 39)) - 1;
}
