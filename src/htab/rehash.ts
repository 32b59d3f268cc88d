import { Pace } from '../bytes/pace.js';
import { FormatError, UnsupportedError } from '../errors.js';
import type { LimitOptions } from '../limits.js';
import { FLAG_BOLTED, FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import { HPTE_BYTES } from './order.js';
import { TablePage } from './page.js';
import { pageShifts } from './page-size.js';
import { BAD_PAGE_SIZE, BAD_SEGMENT, hashOf, PTEG_SLOTS, slotInOrder } from './pteg.js';
import { HashPageTable } from './table.js';

export interface RehashOptions {
  /**
   * Keep the bolted entries only, as KVM and QEMU do when a guest resizes its table. Default false:
   * the others are kept too where their slot is free.
   */
  readonly likeKernel?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Of them, `tableBytes` counts for the new table. Default: DEFAULT_LIMITS. */
  readonly limits?: LimitOptions | undefined;
}

/** What became of the entries. The four add up to what was stored. */
export interface RehashCounts {
  /** Bolted entries; all of them are in the new table. */
  readonly bolted: number;
  /** Other valid entries that are in the new table. */
  readonly kept: number;
  /** Valid entries that are not, because of `likeKernel` or because their slot was taken. */
  readonly dropped: number;
  /** Stored without V, and left out. */
  readonly notValid: number;
}

export interface Rehashed {
  readonly table: HashPageTable;
  readonly counts: RehashCounts;
}

/**
 * Makes a table of another order out of a table, as KVM does for KVM_PPC_RESIZE_HPT_COMMIT
 * (arch/powerpc/kvm/book3s_64_mmu_hv.c resize_hpt_rehash_hpte, as in Linux 4.16 and later) and QEMU
 * under TCG for H_RESIZE_HPT_COMMIT (hw/ppc/spapr_vhyp_mmu.c rehash_hpte, as in 9.1). An entry goes
 * to the PTEG that its hash has in the new table; it keeps its place of eight, its H bit and all other
 * bits.
 *
 * No other place will do, even if one is free: Linux notes the place and the H bit of an entry in its
 * own page tables (H_PAGE_F_GIX, H_PAGE_F_SECOND; arch/powerpc/mm/book3s64/hash_4k.c, hash_64k.c) and
 * looks nowhere else when it takes the entry out. One that was moved would outlive its page.
 *
 * A bolted entry has its slot before any other; of the others, the one from the lowest slot has it. A
 * larger table has room for all.
 *
 * Note that the guest is not told. Linux finds PTEGs with a mask of its own, which it sets at boot and
 * after a resize that it asked for itself (htab_hash_mask; arch/powerpc/platforms/pseries/lpar.c
 * pseries_lpar_resize_hpt_commit): it does not run on with a table of another order.
 *
 * Where this differs from KVM and QEMU: an entry that does not stand where its hash says is an error;
 * KVM carries it to a wrong place. QEMU dies of every bolted entry in a secondary PTEG (an assertion
 * that cannot hold) and hashes with the actual page size where the base page size is meant. A
 * reserved segment size is an error, as in QEMU; KVM looks for that when an entry is made.
 *
 * @throws UsageError `E_ORDER`; UnsupportedError `E_COLLISION`: two bolted entries for one slot
 *   (ENOSPC of the kernel); FormatError `E_HPTE`: a page or segment size that does not exist (EIO),
 *   `E_PLACEMENT`: an entry where its hash does not put it. With `likeKernel` nothing but the page
 *   size is looked at in entries that are not bolted, as in the kernel.
 */
export async function rehash(
  table: HashPageTable,
  order: number,
  options: RehashOptions = {},
): Promise<Rehashed> {
  const job = new Rehash(table, new HashPageTable(order, options.limits), options);
  await job.run();
  return { table: job.result, counts: job.counts() };
}

/** A page of the old table that is being looked at. */
interface OldPage {
  /** Its first slot. */
  readonly first: number;
  /** The first slot as counted in its stretch. */
  readonly local: number;
  readonly page: TablePage;
  readonly bytes: Uint8Array;
}

/*
 * Of a hash, the smaller table uses bits that the larger one uses too. So a slot modulo the slots of
 * the smaller table is the same number in both, and entries can only meet if it is the same for them.
 * The tables are taken in stretches of that number which are as long as the larger page, so that
 * every page of either table belongs to one stretch.
 */
class Rehash {
  readonly #from: HashPageTable;
  readonly #likeKernel: boolean;
  readonly #pace: Pace;
  /** Slots of the smaller table. */
  readonly #slots: number;
  #bolted = 0;
  #kept = 0;
  #dropped = 0;
  #notValid = 0;

  constructor(
    from: HashPageTable,
    readonly result: HashPageTable,
    options: RehashOptions,
  ) {
    this.#from = from;
    this.#likeKernel = options.likeKernel ?? false;
    this.#pace = new Pace(options.signal);
    this.#slots = Math.min(from.slots, result.slots);
  }

  counts(): RehashCounts {
    return {
      bolted: this.#bolted,
      kept: this.#kept,
      dropped: this.#dropped,
      notValid: this.#notValid,
    };
  }

  async run(): Promise<void> {
    const { pageSlots } = this.#from;
    const width = Math.max(pageSlots, this.result.pageSlots);
    const stretches = this.#slots / width;
    // Old pages by stretch, and within it from the lowest slot on: a number below 2^34.
    const perStretch = this.#from.slots / pageSlots / stretches;
    const folds = this.result.order < this.#from.order;
    const numbers = this.#from.pageNumbers();
    const keys = folds
      ? numbers.map((n) => (n % stretches) * perStretch + Math.floor(n / stretches))
      : numbers;
    keys.sort();
    const stretch = new Stretch(width);
    for (let i = 0; i < keys.length; ) {
      const place = Math.floor((keys[i] ?? 0) / perStretch);
      const pages: OldPage[] = [];
      for (; i < keys.length; i++) {
        const key = keys[i] ?? 0;
        if (Math.floor(key / perStretch) !== place) break;
        const number = folds ? (key % perStretch) * stretches + place : key;
        pages.push(this.#open(number, place * width));
        if (this.#pace.due) await this.#pace.pause();
      }
      await this.#settle(pages, stretch);
      this.#emit(pages, stretch, place * width);
    }
    await this.#check();
  }

  #open(number: number, start: number): OldPage {
    const page = this.#from.page(number);
    if (page === undefined) throw new Error('the table was changed while it was rehashed');
    const first = number * this.#from.pageSlots;
    return { first, local: (first % this.#slots) - start, page, bytes: page.entries };
  }

  /** Finds out which entry of the pages has each slot. */
  async #settle(pages: readonly OldPage[], stretch: Stretch): Promise<void> {
    stretch.clear();
    for (const [number, old] of pages.entries()) {
      for (let i = 0; i < old.page.count; i++) {
        if (!isBolted(old.bytes, i)) continue;
        const local = old.local + old.page.slotAt(i);
        const slot = this.#slotOf(old, i);
        const owner = pages[stretch.ownerOf(local)];
        if (owner !== undefined) {
          throw collision(owner.first + local - owner.local, old.first + local - old.local, slot);
        }
        stretch.claim(local, number, i, slot);
        this.#bolted++;
      }
      if (this.#pace.due) await this.#pace.pause();
    }
    for (const [number, old] of pages.entries()) {
      for (let i = 0; i < old.page.count; i++) {
        if (isBolted(old.bytes, i) || !this.#wanted(old, i)) continue;
        const local = old.local + old.page.slotAt(i);
        const slot = this.#slotOf(old, i);
        if (stretch.ownerOf(local) >= 0) {
          this.#dropped++;
        } else {
          stretch.claim(local, number, i, slot);
          this.#kept++;
        }
      }
      if (this.#pace.due) await this.#pace.pause();
    }
  }

  /** Makes the pages of the new table that a stretch is. */
  #emit(pages: readonly OldPage[], stretch: Stretch, start: number): void {
    const { pageSlots } = this.result;
    const slots = stretch.targets();
    for (let i = 0; i < slots.length; ) {
      const number = Math.floor((slots[i] ?? 0) / pageSlots);
      let end = i + 1;
      while (end < slots.length && (slots[end] ?? 0) < (number + 1) * pageSlots) end++;
      const numbers = new Uint16Array(end - i);
      const entries = new Uint8Array((end - i) * HPTE_BYTES);
      for (let to = 0; i < end; i++) {
        const slot = slots[i] ?? 0;
        const local = (slot % this.#slots) - start;
        numbers[to / HPTE_BYTES] = slot % pageSlots;
        const bytes = pages[stretch.ownerOf(local)]?.bytes;
        if (bytes === undefined) throw new Error('rehash lost an entry');
        // Copied by hand: for 16 bytes, a call costs more than the loop.
        const at = stretch.positionOf(local) * HPTE_BYTES;
        for (let k = at; k < at + HPTE_BYTES; k++) entries[to++] = bytes[k] ?? 0;
      }
      this.result.setPage(number, TablePage.of(numbers, entries));
    }
  }

  /** Whether an entry that is not bolted may be in the new table; counts it if not. */
  #wanted({ first, page, bytes }: OldPage, i: number): boolean {
    const at = i * HPTE_BYTES;
    if (((bytes[at + FLAGS_BYTE] ?? 0) & FLAG_VALID) === 0) {
      this.#notValid++;
      return false;
    }
    if (!this.#likeKernel) return true;
    if (pageShifts(bytes, at) === undefined) throw badEntry(BAD_PAGE_SIZE, first + page.slotAt(i));
    this.#dropped++;
    return false;
  }

  /** The slot of an entry in the new table. */
  #slotOf({ first, page, bytes }: OldPage, i: number): number {
    const index = first + page.slotAt(i);
    const { order } = this.#from;
    const slot = slotInOrder(bytes, i * HPTE_BYTES, index, order, this.result.order);
    if (slot < 0) throw badEntry(slot, index);
    return slot;
  }

  /** Whether the new table is what it should be: an error here is one of this file. */
  async #check(): Promise<void> {
    const { order, pageSlots } = this.result;
    let found = 0;
    for (const number of this.result.pageNumbers()) {
      const page = this.result.page(number);
      if (page === undefined) continue;
      const bytes = page.entries;
      for (let i = 0; i < page.count; i++) {
        const index = number * pageSlots + page.slotAt(i);
        if (hashOf(bytes, i * HPTE_BYTES, index, order) < 0) {
          throw new Error(`rehash put an entry into slot ${index}, where it does not belong`);
        }
      }
      found += page.count;
      if (this.#pace.due) await this.#pace.pause();
    }
    const { bolted, kept } = this.counts();
    if (found !== bolted + kept) throw new Error('rehash lost entries');
  }
}

/** Who has each slot of one stretch: the position of an entry in one of its old pages. */
class Stretch {
  readonly #pages: Int32Array;
  readonly #positions: Uint16Array;
  readonly #targets: Float64Array;
  #claimed = 0;

  constructor(slots: number) {
    this.#pages = new Int32Array(slots).fill(-1);
    this.#positions = new Uint16Array(slots);
    this.#targets = new Float64Array(slots);
  }

  clear(): void {
    if (this.#claimed > 0) this.#pages.fill(-1);
    this.#claimed = 0;
  }

  /** Gives a slot to an entry, which will stand at `target` in the new table. */
  claim(local: number, page: number, position: number, target: number): void {
    this.#pages[local] = page;
    this.#positions[local] = position;
    this.#targets[this.#claimed++] = target;
  }

  /** The number of a page, or -1. */
  ownerOf(local: number): number {
    return this.#pages[local] ?? -1;
  }

  positionOf(local: number): number {
    return this.#positions[local] ?? 0;
  }

  /** The slots in the new table, ascending. */
  targets(): Float64Array {
    return this.#targets.subarray(0, this.#claimed).sort();
  }
}

function isBolted(bytes: Uint8Array, i: number): boolean {
  const flags = bytes[i * HPTE_BYTES + FLAGS_BYTE] ?? 0;
  return (flags & (FLAG_BOLTED | FLAG_VALID)) === (FLAG_BOLTED | FLAG_VALID);
}

function collision(first: number, second: number, slot: number): UnsupportedError {
  return new UnsupportedError(
    'E_COLLISION',
    'two bolted entries come to stand in one slot of the smaller table, and neither may be dropped; choose a larger order',
    { actual: `slots ${first} and ${second}, both for slot ${slot}` },
  );
}

function badEntry(fault: number, index: number): FormatError {
  if (fault === BAD_PAGE_SIZE) {
    return new FormatError('E_HPTE', 'an entry has a page size that does not exist', {
      expected: 'an LP field that KVM knows',
      actual: `slot ${index}`,
    });
  }
  if (fault === BAD_SEGMENT) {
    return new FormatError('E_HPTE', 'an entry has a segment size that does not exist', {
      expected: 'B 0 (256 MiB) or 1 (1 TiB)',
      actual: `slot ${index}`,
    });
  }
  return new FormatError(
    'E_PLACEMENT',
    'an entry does not stand where its hash puts it, so its place in another table is not known; the table is damaged, or its order is wrong',
    { actual: `slot ${index}, of PTEG ${Math.floor(index / PTEG_SLOTS)}` },
  );
}
