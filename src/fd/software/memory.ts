import { UsageError } from '../../errors.js';

/** A memory slot of the guest: KVM_SET_USER_MEMORY_REGION. */
export interface GuestMemory {
  /** Guest real address of its first byte; a multiple of 64 KiB, the page size of the host. */
  readonly base: bigint;
  /** Bytes, a multiple of 64 KiB. */
  readonly size: bigint;
  /**
   * Bytes of a host page behind it: 0x10000n for ordinary pages, 0n where the host has none yet.
   * Default: a transparent huge page, which is 16 MiB on a host with the hash MMU and 2 MiB with
   * radix.
   */
  readonly hostPage?: bigint | undefined;
}

/** What KVM finds behind the real address of an HPTE (kvmppc_do_h_enter). */
export type Backing =
  /** No memory slot: taken for a device. The entry is kept, absent. */
  | 'device'
  /** A memory slot, but no host page yet. Absent too. */
  | 'absent'
  | 'present'
  /** The page does not fit the memory slot, or is larger than the host's: H_PARAMETER. */
  | 'unaligned'
  | 'too-large';

/** The host's page size (64 KiB: CONFIG_PPC_64K_PAGES, as every distribution builds ppc64le). */
const HOST_PAGE = 0x10000n;
const HOST_SHIFT = 16;

/** In pages of the host, which have 44 bits (`gfn`). */
interface Region {
  readonly base: number;
  readonly pages: number;
  readonly hostPage: number;
}

/** The memory slots of a guest. */
export class MemorySlots {
  readonly #regions: readonly Region[];

  /**
   * @param hugePage what {@link GuestMemory.hostPage} is by default
   * @throws UsageError `E_USAGE` for regions that are not whole pages or overlap
   */
  constructor(memory: readonly GuestMemory[], hugePage: bigint) {
    for (const { base, size, hostPage = hugePage } of memory) {
      const whole = [base, size, hostPage].every(
        (n) => typeof n === 'bigint' && n >= 0n && n % HOST_PAGE === 0n,
      );
      if (!whole || size === 0n || base + size > 1n << 60n) {
        throw new UsageError('E_USAGE', 'a memory slot is not whole pages of 64 KiB below 2^60', {
          actual: `${size} bytes at ${base}, host pages of ${hostPage}`,
        });
      }
    }
    this.#regions = memory.map(({ base, size, hostPage = hugePage }) => ({
      base: Number(base / HOST_PAGE),
      pages: Number(size / HOST_PAGE),
      hostPage: Number(hostPage / HOST_PAGE),
    }));
    const sorted = [...this.#regions].sort((a, b) => (a.base < b.base ? -1 : 1));
    sorted.forEach(({ base }, i) => {
      const before = sorted[i - 1];
      if (before !== undefined && before.base + before.pages > base) {
        const actual = `at ${BigInt(base) * HOST_PAGE}`;
        throw new UsageError('E_USAGE', 'two memory slots overlap', { actual });
      }
    });
  }

  /** Pages of 64 KiB of the memory slot at real address 0. */
  get atZero(): number | undefined {
    return this.#find(0)?.pages;
  }

  get empty(): boolean {
    return this.#regions.length === 0;
  }

  /**
   * What is behind an entry: kvmppc_do_h_enter of arch/powerpc/kvm/book3s_hv_rm_mmu.c and
   * slot_is_aligned of arch/powerpc/include/asm/kvm_book3s_64.h, Linux 6.1.
   * @param page number of the 64 KiB page that the entry's RPN is in
   * @param shift log2 of the bytes of the page that it maps
   */
  backing(page: number, shift: number): Backing {
    const pages = pagesOf(shift);
    const region = this.#find(page - (page % pages));
    if (region === undefined) return 'device';
    if (region.base % pages !== 0 || region.pages % pages !== 0) return 'unaligned';
    if (region.hostPage === 0) return 'absent';
    return region.hostPage < pages ? 'too-large' : 'present';
  }

  /** Whether `other` does not have the memory slot that the entry's page is in. */
  lost(page: number, shift: number, other: MemorySlots): boolean {
    const first = page - (page % pagesOf(shift));
    const region = this.#find(first);
    const kept = other.#find(first);
    return region?.base !== kept?.base || region?.pages !== kept?.pages;
  }

  #find(page: number): Region | undefined {
    for (const region of this.#regions) {
      if (page >= region.base && page < region.base + region.pages) return region;
    }
    return undefined;
  }
}

/** How many pages of the host a page of 2^shift bytes covers. */
function pagesOf(shift: number): number {
  return 2 ** Math.max(0, shift - HOST_SHIFT);
}
