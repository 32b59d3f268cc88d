import type { OperationOptions } from '../bytes/reader.js';
import { type SpaprHtabError, UnsupportedError, UsageError } from '../errors.js';
import { boltedOnly } from '../htab/bolted.js';
import type { HtabItems } from '../htab/items.js';
import { noHpt } from '../htab/missing.js';
import { slotsOfOrder } from '../htab/order.js';
import { type RehashCounts, rehash } from '../htab/rehash.js';
import { HashPageTable } from '../htab/table.js';
import { allInLast, withoutHpt } from './payloads.js';

/** What is wanted of the HPT of a stream. Edits combine, in the order in which they stand here. */
export interface HptEdits {
  /** Rehash into a table of this order. */
  readonly order?: number | undefined;
  /** With `order`: drop what is not bolted, as the kernel's resize does. Default false. */
  readonly likeKernel?: boolean | undefined;
  /** Keep the bolted entries only. Default false. */
  readonly boltedOnly?: boolean | undefined;
  /** Say the table once, in the last part. Default false. */
  readonly compact?: boolean | undefined;
  /** Take a replacement of another order than the stream's. Default false. */
  readonly allowOtherOrder?: boolean | undefined;
  /** Take a table for a stream without HPT (radix), or none for one with it. Default false. */
  readonly allowRadix?: boolean | undefined;
}

/** The same, with the HPT that takes the place of the stream's. */
export interface HptPlan extends HptEdits {
  readonly replacement?: Replacement | undefined;
}

/** An HPT from elsewhere, looked through once. */
export interface Replacement {
  /** For messages. */
  readonly name: string;
  /** Undefined where its format does not record it. */
  readonly order: number | undefined;
  readonly radix: boolean;
  /** START and the parts. */
  readonly payloads: number;
  /** Whether its first payload, and no other, begins the table: so in everything that QEMU writes. */
  readonly regular: boolean;
  /** One past the highest slot that a block covers. */
  readonly reach: number;
  /** All of it, from the beginning, each time. `order` is for formats that do not record it. */
  items(order: number | undefined): HtabItems;
}

/** The HPT that the stream has. */
export interface PresentHpt {
  readonly order: number | undefined;
  readonly radix: boolean;
  /** PART and END payloads. */
  readonly parts: number;
  /** What its payloads say, from the beginning. */
  items(): HtabItems;
  /** The table they make, where `needsTable` said that it is needed. */
  readonly table: HashPageTable | undefined;
}

export interface PlannedHpt {
  /** The new payloads, from the beginning each time; undefined when they stay as they are. */
  readonly items: (() => HtabItems) | undefined;
  readonly rehashed: RehashCounts | undefined;
  /** Why an edit changes nothing, where one does not. */
  readonly notes: readonly string[];
}

/** Whether the present table has to be held as a whole. */
export function needsTable(edits: HptPlan): boolean {
  const { replacement, order, compact } = edits;
  return replacement === undefined && (order !== undefined || compact === true);
}

/**
 * Decides what the stream's payloads become.
 * @throws UnsupportedError `E_NO_HPT`, `E_UNSUPPORTED`; UsageError `E_ORDER`; what rehashing throws
 */
export async function planHpt(
  present: PresentHpt,
  edits: HptPlan,
  operation: Pick<OperationOptions, 'signal' | 'limits'>,
): Promise<PlannedHpt> {
  const nothing: PlannedHpt = { items: undefined, rehashed: undefined, notes: [] };
  if (edits.replacement === undefined && present.radix) return planRadix(edits);
  if (edits.replacement === undefined && !needsTable(edits)) {
    return edits.boltedOnly ? { ...nothing, items: () => boltedOnly(present.items()) } : nothing;
  }
  if (edits.replacement?.radix) return planNoHpt(present, edits.replacement, edits);
  if (edits.replacement !== undefined && present.radix && !edits.allowRadix) {
    throw radixRefused('the guest runs in radix mode and would not use an HPT');
  }
  return planTable(present, edits, operation);
}

async function planTable(
  present: PresentHpt,
  edits: HptPlan,
  operation: Pick<OperationOptions, 'signal' | 'limits'>,
): Promise<PlannedHpt> {
  const { replacement } = edits;
  const order = replacement === undefined ? present.order : orderFor(replacement, present, edits);
  const wanted = edits.order ?? order;
  if (order === undefined || wanted === undefined) throw noHpt();
  const notes: string[] = [];
  if (edits.order !== undefined && edits.order === present.order && replacement === undefined) {
    notes.push(`the table has order ${wanted} already`);
  }
  if (present.order !== undefined && wanted !== present.order) {
    notes.push(
      `the table gets order ${wanted}, and nothing tells the guest: one that uses its table already, ` +
        `as Linux does once it is up, goes on computing with order ${present.order} and does not survive`,
    );
  }
  const { parts } = present;
  const filter = { boltedOnly: edits.boltedOnly ?? false };
  const whole = edits.compact === true || wanted !== order || replacement?.regular === false;
  if (!whole) {
    const all = (): HtabItems =>
      replacement === undefined ? present.items() : replacement.items(order);
    const kept = (): HtabItems => (edits.boltedOnly ? boltedOnly(all()) : all());
    if (replacement === undefined) {
      return { items: edits.boltedOnly ? kept : undefined, rehashed: undefined, notes };
    }
    const same = replacement.payloads === parts + 1;
    if (!same) refuseWithoutParts(parts, replacement.reach > 0);
    const items = same ? kept : () => allInLast(order, parts, kept());
    return { items, rehashed: undefined, notes };
  }
  let table = present.table;
  if (replacement !== undefined) {
    table = await HashPageTable.from(replacement.items(order), order, operation.limits);
  }
  if (table === undefined) throw new RangeError('the table was not built');
  let rehashed: RehashCounts | undefined;
  if (wanted !== order) {
    const result = await rehash(table, wanted, { likeKernel: edits.likeKernel, ...operation });
    table = result.table;
    rehashed = result.counts;
  }
  refuseWithoutParts(parts, table.pageNumbers().length > 0);
  const made = table;
  return { items: () => allInLast(wanted, parts, made.items(filter)), rehashed, notes };
}

/** The order of a replacement: its own, or else the stream's, which it must fit. */
function orderFor(replacement: Replacement, present: PresentHpt, edits: HptPlan): number {
  const { name, order, reach } = replacement;
  if (order === undefined) {
    if (present.order === undefined) {
      throw new UsageError(
        'E_ORDER_REQUIRED',
        `neither ${name} nor the stream, whose guest has no HPT, says the order of the table`,
      );
    }
    if (reach > slotsOfOrder(present.order)) {
      throw otherOrder(name, present.order, `blocks up to slot ${reach - 1}`);
    }
    return present.order;
  }
  const asked = edits.order !== undefined || edits.allowOtherOrder === true;
  if (present.order !== undefined && order !== present.order && !asked) {
    throw otherOrder(name, present.order, `order ${order}`);
  }
  return order;
}

function otherOrder(name: string, order: number, actual: string): SpaprHtabError {
  return new UsageError(
    'E_ORDER',
    `${name} is of another order than the stream's HPT, and a guest computes with the order that it ` +
      'booted with; rehash it (--order N), or allow another one (--allow-other-order)',
    { expected: `order ${order}`, actual },
  );
}

/** The guest has no HPT: most edits have nothing to do. */
function planRadix(edits: HptPlan): PlannedHpt {
  if (edits.order !== undefined) throw noHpt();
  const asked = edits.compact || edits.boltedOnly;
  const notes = asked ? ['the guest has no HPT (radix): there is nothing to do in it'] : [];
  return { items: undefined, rehashed: undefined, notes };
}

function planNoHpt(present: PresentHpt, replacement: Replacement, edits: HptPlan): PlannedHpt {
  if (edits.order !== undefined) throw noHpt();
  if (!present.radix && !edits.allowRadix) {
    throw radixRefused(`${replacement.name} says that there is no HPT, and the guest has one`);
  }
  return { items: () => withoutHpt(present.parts), rehashed: undefined, notes: [] };
}

function radixRefused(why: string): SpaprHtabError {
  return new UnsupportedError('E_NO_HPT', `${why}; allow it if you know better (--allow-radix)`);
}

/** START has no room for blocks. */
function refuseWithoutParts(parts: number, blocks: boolean): void {
  if (parts > 0 || !blocks) return;
  throw new UnsupportedError(
    'E_UNSUPPORTED',
    'the stream has a START of spapr/htab and no part behind it that could take the blocks',
  );
}
