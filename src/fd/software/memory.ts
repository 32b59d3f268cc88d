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
/** HPTE_R_RPN (arch/powerpc/include/asm/book3s/64/mmu-hash.h). */
const RPN = 0x0ffffffffffff000n;

interface Region {
  readonly base: bigint;
  readonly size: bigint;
  readonly hostPage: bigint;
}

/** The memory slots of a guest. */
export class MemorySlots {
  readonly #regions: readonly Region[];

  /**
   * @param hugePage what {@link GuestMemory.hostPage} is by default
   * @throws UsageError `E_USAGE` for regions that are not whole pages or overlap
   */
  constructor(memory: readonly GuestMemory[], hugePage: bigint) {
    this.#regions = memory.map(({ base, size, hostPage }) => ({
      base,
      size,
      hostPage: hostPage ?? hugePage,
    }));
    for (const { base, size } of this.#regions) {
      if (base < 0n || size <= 0n || base % HOST_PAGE !== 0n || size % HOST_PAGE !== 0n) {
        throw new UsageError('E_USAGE', 'a memory slot is not whole pages of 64 KiB', {
          actual: `${size} bytes at ${base}`,
        });
      }
    }
    const sorted = [...this.#regions].sort((a, b) => (a.base < b.base ? -1 : 1));
    sorted.forEach(({ base }, i) => {
      const before = sorted[i - 1];
      if (before !== undefined && before.base + before.size > base) {
        throw new UsageError('E_USAGE', 'two memory slots overlap', { actual: `at ${base}` });
      }
    });
  }

  /** Size of the memory slot at real address 0, in bytes. */
  get atZero(): bigint | undefined {
    return this.#find(0n)?.size;
  }

  /**
   * What is behind an entry: kvmppc_do_h_enter of arch/powerpc/kvm/book3s_hv_rm_mmu.c and
   * slot_is_aligned of arch/powerpc/include/asm/kvm_book3s_64.h, Linux 6.1.
   * @param dw1 the entry's second doubleword
   * @param shift log2 of the size of the page that it maps
   */
  backing(dw1: bigint, shift: number): Backing {
    const page = 1n << BigInt(shift);
    const region = this.#find(dw1 & RPN & ~(page - 1n));
    if (region === undefined) return 'device';
    if (page > HOST_PAGE && ((region.base | region.size) & (page - 1n)) !== 0n) return 'unaligned';
    if (region.hostPage === 0n) return 'absent';
    return region.hostPage < page ? 'too-large' : 'present';
  }

  /** Whether the page of an entry is in none of these slots, or in one that `other` does not have. */
  lost(dw1: bigint, shift: number, other: MemorySlots): boolean {
    const address = dw1 & RPN & ~((1n << BigInt(shift)) - 1n);
    const region = this.#find(address);
    const kept = other.#find(address);
    return region?.base !== kept?.base || region?.size !== kept?.size;
  }

  get empty(): boolean {
    return this.#regions.length === 0;
  }

  #find(address: bigint): Region | undefined {
    return this.#regions.find(({ base, size }) => address >= base && address < base + size);
  }
}
