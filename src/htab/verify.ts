import { Pace } from '../bytes/pace.js';
import { FLAG_BOLTED, FLAG_LARGE, FLAG_SECONDARY, FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import { HPTE_BYTES } from './order.js';
import type { TablePage } from './page.js';
import { pageShifts } from './page-size.js';
import { BAD_PAGE_SIZE, BAD_SEGMENT, hashOf, PTEG_SLOTS, ptegOf } from './pteg.js';
import type { HashPageTable } from './table.js';

/** What may be wrong with an entry. */
export type TableFindingCode =
  /** Something is stored, but V is not set: KVM refuses it (EINVAL), QEMU under TCG takes it. */
  | 'not-valid'
  /** The page size is none that exists: KVM refuses it (EINVAL), QEMU under TCG never uses it. */
  | 'page-size'
  /** The segment size is reserved: KVM refuses it (EIO), QEMU under TCG never uses it. */
  | 'segment-size'
  /** It stands in another PTEG than the one that its hash and its H bit say: no lookup finds it. */
  | 'misplaced'
  /** Another entry maps the same page: which of them is used is not defined. */
  | 'duplicate';

/** A kind of fault, and how often it was met. */
export interface TableFinding {
  readonly code: TableFindingCode;
  /**
   * `error`: KVM refuses to load it, or no lookup can find it. `warning`: strange, but it works. A
   * misplaced or repeated entry can be a guest's own doing, as H_ENTER of neither KVM nor QEMU
   * looks for that; Linux makes none.
   */
  readonly severity: 'error' | 'warning';
  /** Entries. One entry counts for one kind at most. */
  readonly count: number;
  /** The lowest slot of them. */
  readonly first: number;
  readonly message: string;
}

/** Valid entries of one page size. */
export interface PageSizeCount {
  /** Base page size of the segment, in bytes. */
  readonly base: number;
  /** Size of the page itself, in bytes. */
  readonly actual: number;
  readonly count: number;
}

export interface TableReport {
  readonly order: number;
  /** Entries with V. */
  readonly valid: number;
  /** Valid entries with the bolted bit. */
  readonly bolted: number;
  /** Valid entries with L. */
  readonly large: number;
  /** Valid entries without H. */
  readonly primary: number;
  /** Valid entries with H. */
  readonly secondary: number;
  /** Ascending. Entries whose page size does not exist are missing. */
  readonly byPageSize: readonly PageSizeCount[];
  /** At most one of a kind. */
  readonly findings: readonly TableFinding[];
}

const TEXTS: Record<TableFindingCode, [TableFinding['severity'], string]> = {
  'not-valid': ['error', 'stored without the valid bit; KVM refuses to load that'],
  'page-size': ['error', 'with a page size that does not exist; KVM refuses to load that'],
  'segment-size': ['error', 'with a reserved segment size; KVM refuses to load that'],
  misplaced: [
    'error',
    'in another group of slots than the hash says, where no lookup finds it: the table is damaged, or has another order',
  ],
  duplicate: ['warning', 'for a page that another entry maps as well'],
};

/**
 * Examines every entry of a table: whether a hypervisor takes it, and whether the guest finds it.
 *
 * What it cannot see: a table that lost entries, and addresses that are wrong. Of 4 KiB and 64 KiB
 * pages the lowest 11 or 7 bits of the hash are not in the entry, so that a wrong PTEG of the same
 * 2048 or 128 cannot be told.
 */
export async function verifyTable(
  table: HashPageTable,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<TableReport> {
  const pace = new Pace(options.signal);
  const checker = new Checker(table);
  for (const number of table.pageNumbers().sort()) {
    checker.page(number);
    if (pace.due) await pace.pause();
  }
  return checker.report();
}

class Checker {
  readonly #table: HashPageTable;
  readonly #found = new Map<TableFindingCode, { count: number; first: number }>();
  /** By base page shift and actual one. */
  readonly #sizes = new Uint32Array(64 * 64);
  #valid = 0;
  #bolted = 0;
  #large = 0;
  #secondary = 0;

  constructor(table: HashPageTable) {
    this.#table = table;
  }

  page(number: number): void {
    const page = this.#table.page(number);
    if (page === undefined) return;
    const { order, pageSlots } = this.#table;
    const bytes = page.entries;
    for (let i = 0, start = 0; i < page.count; i++) {
      const at = i * HPTE_BYTES;
      const slot = page.slotAt(i);
      const index = number * pageSlots + slot;
      // Where the entries of this PTEG begin.
      if (slot >> 3 !== page.slotAt(start) >> 3) start = i;
      if (!this.#count(bytes, at)) {
        this.#add('not-valid', index);
        continue;
      }
      const hash = hashOf(bytes, at, index, order);
      if (hash === BAD_PAGE_SIZE) this.#add('page-size', index);
      else if (hash === BAD_SEGMENT) this.#add('segment-size', index);
      else if (hash < 0) this.#add('misplaced', index);
      else if (this.#isDuplicate(page, bytes, start, i, hash)) this.#add('duplicate', index);
    }
  }

  /** False for an entry without V. */
  #count(bytes: Uint8Array, at: number): boolean {
    const flags = bytes[at + FLAGS_BYTE] ?? 0;
    if ((flags & FLAG_VALID) === 0) return false;
    this.#valid++;
    if (flags & FLAG_BOLTED) this.#bolted++;
    if (flags & FLAG_LARGE) this.#large++;
    if (flags & FLAG_SECONDARY) this.#secondary++;
    const shifts = pageShifts(bytes, at);
    if (shifts !== undefined) {
      const size = shifts.base * 64 + shifts.actual;
      this.#sizes[size] = (this.#sizes[size] ?? 0) + 1;
    }
    return true;
  }

  /**
   * Whether an entry repeats one before it in its PTEG or, when it stands in the secondary PTEG, one
   * in the primary. The hashes need no comparison: they are equal when all else is.
   */
  #isDuplicate(
    page: TablePage,
    bytes: Uint8Array,
    start: number,
    i: number,
    hash: number,
  ): boolean {
    const at = i * HPTE_BYTES;
    for (let other = start; other < i; other++) {
      if (samePage(bytes, other * HPTE_BYTES, bytes, at, 0)) return true;
    }
    if (((bytes[at + FLAGS_BYTE] ?? 0) & FLAG_SECONDARY) === 0) return false;
    const { order, pageSlots } = this.#table;
    const first = ptegOf(hash, false, order) * PTEG_SLOTS;
    const primary = this.#table.page(Math.floor(first / pageSlots));
    if (primary === undefined) return false;
    const slot = first % pageSlots;
    const entries = primary === page ? bytes : primary.entries;
    for (let n = primary.find(slot); n < primary.count; n++) {
      if (primary.slotAt(n) >= slot + PTEG_SLOTS) break;
      if (samePage(entries, n * HPTE_BYTES, bytes, at, FLAG_SECONDARY)) return true;
    }
    return false;
  }

  #add(code: TableFindingCode, index: number): void {
    const found = this.#found.get(code);
    if (found === undefined) this.#found.set(code, { count: 1, first: index });
    else found.count++;
  }

  report(): TableReport {
    const byPageSize: PageSizeCount[] = [];
    for (const [size, count] of this.#sizes.entries()) {
      if (count === 0) continue;
      byPageSize.push({ base: 2 ** Math.floor(size / 64), actual: 2 ** (size % 64), count });
    }
    const codes = Object.keys(TEXTS) as TableFindingCode[];
    const findings = codes.flatMap((code): TableFinding[] => {
      const found = this.#found.get(code);
      if (found === undefined) return [];
      const [severity, text] = TEXTS[code];
      const { count, first } = found;
      const entries = count === 1 ? '1 entry' : `${count} entries`;
      const message = `${entries} ${text} (${count === 1 ? '' : 'first '}slot ${first})`;
      return [{ code, severity, count, first, message }];
    });
    return {
      order: this.#table.order,
      valid: this.#valid,
      bolted: this.#bolted,
      large: this.#large,
      primary: this.#valid - this.#secondary,
      secondary: this.#secondary,
      byPageSize,
      findings,
    };
  }
}

/**
 * Whether two entries are for the same page as far as they say: V, H, B, AVPN and base page size.
 * What of AVPN is below the page size does not count.
 * @param flip bits in which the flags must differ
 */
function samePage(a: Uint8Array, at: number, b: Uint8Array, bt: number, flip: number): boolean {
  for (let i = 0; i < 5; i++) if (a[at + i] !== b[bt + i]) return false;
  const flags = (a[at + FLAGS_BYTE] ?? 0) ^ (b[bt + FLAGS_BYTE] ?? 0) ^ flip;
  if (flags & (FLAG_VALID | FLAG_SECONDARY)) return false;
  const base = pageShifts(b, bt)?.base ?? 0;
  if (pageShifts(a, at)?.base !== base) return false;
  const low =
    (((a[at + 5] ?? 0) ^ (b[bt + 5] ?? 0)) << 16) |
    (((a[at + 6] ?? 0) ^ (b[bt + 6] ?? 0)) << 8) |
    (flags & 0x80);
  // AVPN begins at bit 7 with 2^23. In a 256 MiB segment the lower bits of the VSID may be among
  // those that do not count; these the PTEG says.
  return low >> (7 + Math.max(0, base - 23)) === 0;
}
