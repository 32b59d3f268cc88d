import type { ByteSource } from './bytes/source.js';
import { UnsupportedError, UsageError } from './errors.js';
import type { HtabFd } from './fd/htab-fd.js';
import type { Applied } from './fd/write-error.js';
import type { InputFormat } from './formats/format.js';
import { boltedOnly } from './htab/bolted.js';
import { canonical } from './htab/canonical.js';
import type { HtabItem, HtabItems } from './htab/items.js';
import { MAX_INDEXED_ORDER } from './htab/order.js';
import { Tally } from './htab/tally.js';
import { type HptInput, type InputWarning, type OpenOptions, openHpt } from './input.js';

export interface RestoreOptions extends OpenOptions {
  /**
   * Write to a VM whose table has another order. Its guest would not find the entries: they belong
   * to other slots there. Default false: `E_ORDER`, where the input's order is known.
   */
  readonly allowOtherOrder?: boolean | undefined;
  /** Write the bolted entries only; slots of others are emptied. Default false. */
  readonly boltedOnly?: boolean | undefined;
  /**
   * Rebuild the table first and write it in canonical form: every slot is written or emptied, and
   * nothing without V is handed to the kernel. Holds the table. Default false: blocks one for one.
   */
  readonly canonical?: boolean | undefined;
}

/** What was restored: counts of what the kernel took. */
export interface RestoreResult extends Applied {
  readonly from: InputFormat;
  readonly machine: string | undefined;
  readonly order: number | undefined;
  readonly warnings: readonly InputWarning[];
}

/**
 * Writes the HPT of a snapshot or of an HPT file into a VM through its HTAB fd. The VM must have a
 * table of the same order and no vCPU that runs. Slots that the input does not mention stay as they
 * are; with a fresh VM they are empty. The fd stays open.
 *
 * When it fails or is aborted, what was written until then stays in the table.
 * @throws what {@link openHpt} and the decoders throw; UnsupportedError `E_NO_HPT`; UsageError
 *   `E_ORDER` before anything is written; HtabWriteError
 */
export async function restore(
  input: string | ByteSource,
  fd: HtabFd,
  options: RestoreOptions = {},
): Promise<RestoreResult> {
  await using hpt = await openHpt(input, options);
  const tally = new Tally();
  const items = options.allowOtherOrder
    ? transformed(hpt, options)
    : sameOrder(transformed(hpt, options), fd);
  const applied = await fd.applyAll(tally.count(items), { signal: options.signal });
  const { format, machine, warnings } = hpt;
  if (tally.order === undefined && !options.allowOtherOrder) {
    const message =
      "the input does not tell its order: it was not compared with that of the VM's table";
    warnings.push({ code: 'W_ORDER', offset: undefined, message });
  }
  return { ...applied, from: format, machine, order: tally.order, warnings };
}

/** Looks at the order of the VM's table before anything is written to it. */
async function* sameOrder(items: HtabItems, fd: HtabFd): AsyncGenerator<HtabItem> {
  for await (const item of items) {
    if (item.type === 'order') {
      const order = await fd.order();
      if (order === undefined) {
        throw new UnsupportedError(
          'E_NO_HPT',
          'the VM has no hashed page table: none was allocated, or its guest is in radix mode',
        );
      }
      if (order !== Math.min(item.order, MAX_INDEXED_ORDER)) {
        throw new UsageError(
          'E_ORDER',
          "the VM's table has another order, in which these entries belong to other slots; " +
            'make the VM with a table of the same order',
          { offset: item.offset, expected: `order ${item.order}`, actual: String(order) },
        );
      }
    }
    yield item;
  }
}

function transformed(hpt: HptInput, options: RestoreOptions): HtabItems {
  const items = hpt.items({ order: !options.allowOtherOrder || options.canonical === true });
  if (options.canonical) {
    const { order, boltedOnly, limits } = options;
    return canonical(items, 'kernel', { order, boltedOnly, limits });
  }
  return options.boltedOnly ? boltedOnly(items) : items;
}
