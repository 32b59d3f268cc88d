import { DW1_BYTE, FLAG_LARGE, FLAGS_BYTE } from './hpte.js';

/** Sizes of the page that an entry maps, as log2 of bytes. */
export interface PageShifts {
  /** Base page size of the segment: what the hash is computed with. 12, 16, 24 or 34. */
  readonly base: number;
  /** Size of the page itself, at least `base`. 12, 16, 24 or 34. */
  readonly actual: number;
}

const shifts = (base: number, actual: number): PageShifts => Object.freeze({ base, actual });

const SMALL = shifts(12, 12);

/**
 * By the eight LP bits of an entry with L (bits 12 to 19 of DW1). With 64 KiB pages the upper four
 * belong to the page number.
 */
const BY_LP: readonly (PageShifts | undefined)[] = Array.from({ length: 256 }, (_, lp) => {
  if ((lp & 0xf) === 1) return shifts(16, 16);
  if ((lp & 0xf) === 7) return shifts(12, 16);
  if (lp === 0x08) return shifts(16, 24);
  if (lp === 0x38) return shifts(12, 24);
  if (lp === 0x00) return shifts(24, 24);
  if (lp === 0x03) return shifts(34, 34);
  return undefined;
});

/**
 * The page sizes of an entry by KVM's rule, which looks at L and at eight LP bits alone
 * (arch/powerpc/include/asm/kvm_book3s_64.h kvmppc_hpte_page_shifts, as in Linux 4.16 and later; the
 * encodings of POWER7, 8 and 9). QEMU under TCG compares all RPN bits below the page size
 * (target/ppc/mmu-hash64.c hpte_page_shift): a 16 MiB page with stray bits above these eight is a
 * page to KVM and nothing to TCG.
 *
 * @param bytes big-endian entry at `at`: its 16 bytes
 * @returns undefined when the encoding is none that KVM knows (EINVAL of a write to the HTAB fd)
 */
export function pageShifts(bytes: Uint8Array, at = 0): PageShifts | undefined {
  if (((bytes[at + FLAGS_BYTE] ?? 0) & FLAG_LARGE) === 0) return SMALL;
  const lp = ((bytes[at + DW1_BYTE + 5] ?? 0) & 0xf) * 16 + ((bytes[at + DW1_BYTE + 6] ?? 0) >> 4);
  return BY_LP[lp];
}
