import { HPTE_BYTES } from '../../htab/order.js';
import { pageShifts } from '../../htab/page-size.js';
import { type Backing, MemorySlots } from './memory.js';
import { ABSENT, MODIFIED, NEW_C, NEW_R, OCCUPIED, type SlotPage, VALID } from './page.js';
import type { SlotCursor, SlotTable } from './slots.js';

/** KVM's lock bit, held while an entry is copied out: it is set in every one that read returns. */
const HVLOCK = 0x40;
/** HPTE_GR_MODIFIED, 2^62, in the first byte of DW1. */
const GR_MODIFIED = 0x40;

/** Hosts that differ in what they do to an entry. */
export type SoftwareHost = (typeof SOFTWARE_HOSTS)[number];

export const SOFTWARE_HOSTS = ['power8', 'power9-radix', 'power9-hash'] as const;

/** Why H_ENTER refuses an entry (all are H_PARAMETER but the last, which is H_PTEG_FULL). */
export type EnterRefusal = 'segment-size' | 'page-size' | 'unaligned' | 'too-large' | 'occupied';

/**
 * A guest's HPT as KVM keeps it, with what decides how entries go in and out. The functions named
 * are of arch/powerpc/kvm/book3s_hv_rm_mmu.c, Linux 6.1.
 */
export class KernelHpt {
  readonly host: SoftwareHost;
  /** Undefined while none is allocated: then it has no slots. */
  table: SlotTable | undefined;
  memory: MemorySlots;
  /** How many fds are open for reading (`hpte_mod_interest`): without one, nothing is marked. */
  readers = 0;

  constructor(host: SoftwareHost) {
    this.host = host;
    this.memory = new MemorySlots([], this.hugePage);
  }

  get slots(): number {
    return this.table?.slots ?? 0;
  }

  /** Bytes of a transparent huge page of the host: one PMD, with pages of 64 KiB. */
  get hugePage(): bigint {
    return this.host === 'power9-radix' ? 0x200000n : 0x1000000n;
  }

  /**
   * kvmppc_do_h_enter with H_EXACT: puts an entry into a slot that is empty. V, ABSENT and the lock
   * bit are KVM's and not taken from the entry, nor is 2^62 of DW1; all other bits are kept.
   * POWER9 stores the ISA 3.0 format, in which DW0 has no room for AVPN bits above 52; B comes back
   * from the stored DW1 (hpte_old_to_new_v, hpte_new_to_old_v; asm/book3s/64/mmu-hash.h).
   *
   * Whoever enters a page overwrites the mark, so that without readers it is cleared.
   */
  enter(slot: number, bytes: Uint8Array, at: number): EnterRefusal | undefined {
    // B=0b1x is reserved.
    if ((bytes[at] ?? 0) & 0x80) return 'segment-size';
    const shifts = pageShifts(bytes, at);
    if (shifts === undefined) return 'page-size';
    const backing = this.#backing(bytes, at, shifts.actual);
    if (backing === 'unaligned' || backing === 'too-large') return backing;
    const page = this.#table.makePage(slot);
    const i = page.at(slot - page.first);
    if (page.flagsAt(i) & OCCUPIED) return 'occupied';
    const to = page.bytes;
    const base = i * HPTE_BYTES;
    for (let k = 0; k < HPTE_BYTES; k++) to[base + k] = bytes[at + k] ?? 0;
    if (this.host !== 'power8') {
      to[base] = (to[base] ?? 0) & 0xc0;
      to[base + 1] = (to[base + 1] ?? 0) & 0x0f;
    }
    const flags = (to[base + 7] ?? 0) & ~(VALID | ABSENT | HVLOCK);
    to[base + 7] = flags | (backing === 'present' ? VALID : ABSENT);
    to[base + 8] = (to[base + 8] ?? 0) & ~GR_MODIFIED;
    page.setState(i, this.readers > 0 ? MODIFIED : 0);
    return undefined;
  }

  get #table(): SlotTable {
    if (this.table === undefined) throw new RangeError('there is no HPT');
    return this.table;
  }

  #backing(bytes: Uint8Array, at: number, shift: number): Backing {
    if (this.memory.empty) return 'device';
    return this.memory.backing(pageNumber(bytes, at), shift);
  }

  /**
   * kvmppc_do_h_remove for the occupied slots of [from, to), of which it marks each when there is a
   * reader. Slots without an entry are left alone, marks and all (kvm_htab_write).
   * @returns how many there were
   */
  remove(from: number, to: number): number {
    let removed = 0;
    const table = this.#table;
    for (let slot = from; slot < to; ) {
      const page = table.pageOf(slot);
      const end = Math.min(to, slot - (slot % table.pageSlots) + table.pageSlots);
      if (page !== undefined) removed += this.#removeOf(page, slot - page.first, end - page.first);
      slot = end;
    }
    return removed;
  }

  #removeOf(page: SlotPage, from: number, to: number): number {
    let removed = 0;
    for (let i = page.find(from); i < page.count && page.slotAt(i) < to; i++) {
      if ((page.flagsAt(i) & OCCUPIED) === 0) continue;
      page.clear(i);
      // The mark of before stays. R and C go into the guest's view, which nobody can see any more.
      page.setState(i, this.readers > 0 ? MODIFIED : page.stateAt(i) & MODIFIED);
      removed++;
    }
    return removed;
  }

  /**
   * kvmppc_unmap_hpte: the host takes a page back. The entry stays, absent; R and C that the
   * processor set go into the guest's view, which marks it where they are new and a reader is there.
   */
  unmap(lost: (page: number, shift: number) => boolean): void {
    const cursor = this.table?.from(0);
    if (cursor === undefined) return;
    for (; cursor.slot < this.slots; cursor.next()) {
      const { page, i, flags } = cursor;
      if ((flags & VALID) === 0) continue;
      const at = i * HPTE_BYTES;
      const shifts = pageShifts(page.bytes, at);
      if (shifts === undefined || !lost(pageNumber(page.bytes, at), shifts.actual)) continue;
      page.bytes[at + 7] = (flags & ~VALID) | ABSENT;
      const mark = harvest(page, i) && this.readers > 0 ? MODIFIED : 0;
      page.setState(i, (page.stateAt(i) & MODIFIED) | mark);
    }
  }

  /**
   * What the processor does when the guest uses the page of an entry: it sets R, and C on a store.
   * Where the host has the page, the entry is present from then on; a device's has no R and C.
   * @returns false when there is no such entry
   */
  touch(slot: number, store: boolean): boolean {
    const cursor = this.table?.from(slot);
    if (cursor === undefined || cursor.slot !== slot || !cursor.occupied) return false;
    const { page, i } = cursor;
    const at = i * HPTE_BYTES;
    const shifts = pageShifts(page.bytes, at);
    if (shifts === undefined || this.#backing(page.bytes, at, shifts.actual) === 'device') {
      return true;
    }
    page.bytes[at + 7] = (cursor.flags & ~ABSENT) | VALID;
    let state = cursor.state;
    if (((page.bytes[at + 14] ?? 0) & 0x01) === 0) state |= NEW_R;
    if (store && ((page.bytes[at + 15] ?? 0) & 0x80) === 0) state |= NEW_C;
    page.setState(i, state);
    return true;
  }
}

/**
 * The 64 KiB page of the guest that an entry maps, or begins to map: HPTE_R_RPN, bits 12 to 59 of
 * DW1, without the lowest four. It has 44 bits.
 */
function pageNumber(bytes: Uint8Array, at: number): number {
  let page = (bytes[at + 8] ?? 0) & 0x0f;
  for (let k = at + 9; k < at + 14; k++) page = page * 256 + (bytes[k] ?? 0);
  return page;
}

/** Puts R and C that the processor set into the guest's doubleword. Whether there were any. */
function harvest(page: SlotPage, i: number): boolean {
  const state = page.stateAt(i);
  const at = i * HPTE_BYTES;
  if (state & NEW_R) page.bytes[at + 14] = (page.bytes[at + 14] ?? 0) | 0x01;
  if (state & NEW_C) page.bytes[at + 15] = (page.bytes[at + 15] ?? 0) | 0x80;
  return (state & (NEW_R | NEW_C)) !== 0;
}

/** Whether read reports the slot as an entry; BOLTED_ONLY makes an unbolted one invalid. */
export function reportsEntry(cursor: SlotCursor, boltedOnly: boolean): boolean {
  const { flags } = cursor;
  return (flags & OCCUPIED) !== 0 && (!boltedOnly || (flags & 0x10) !== 0);
}

/** record_hpte takes the slot: its R and C become the guest's, and its mark goes. */
export function recordSlot(cursor: SlotCursor): void {
  if (cursor.state === 0) return;
  const { page, i } = cursor;
  harvest(page, i);
  page.setState(i, 0);
}

/** Copies the entry as record_hpte gives it: V for ABSENT, and the lock bit. New R and C included. */
export function copyEntry(cursor: SlotCursor, to: Uint8Array, at: number): void {
  const { page, i, state } = cursor;
  const from = i * HPTE_BYTES;
  for (let k = 0; k < HPTE_BYTES; k++) to[at + k] = page.bytes[from + k] ?? 0;
  to[at + 7] = (cursor.flags & ~ABSENT) | VALID | HVLOCK;
  if (state & NEW_R) to[at + 14] = (to[at + 14] ?? 0) | 0x01;
  if (state & NEW_C) to[at + 15] = (to[at + 15] ?? 0) | 0x80;
}
