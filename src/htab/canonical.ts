import { UnsupportedError } from '../errors.js';
import type { LimitOptions } from '../limits.js';
import type { HtabItem, HtabItems } from './items.js';
import { type CanonicalFraming, HashPageTable } from './table.js';

export interface CanonicalOptions {
  /** For items that carry no order. */
  readonly order?: number | undefined;
  /** Keep the bolted entries only. Default false. */
  readonly boltedOnly?: boolean | undefined;
  /** Of them, `tableBytes` counts here. Default: DEFAULT_LIMITS. */
  readonly limits?: LimitOptions | undefined;
}

/**
 * Rebuilds the table that the items give and says it anew in canonical form: one part, ascending,
 * the hypervisor's bits cleared. A guest without HPT stays one: a single -1. Holds the table.
 */
export async function* canonical(
  items: HtabItems,
  framing: CanonicalFraming,
  options: CanonicalOptions = {},
): AsyncGenerator<HtabItem> {
  let table: HashPageTable;
  try {
    table = await HashPageTable.from(items, options.order, options.limits);
  } catch (error) {
    if (!(error instanceof UnsupportedError && error.code === 'E_NO_HPT')) throw error;
    yield { type: 'no-hpt', offset: 0 };
    return;
  }
  yield* table.canonical(framing, { boltedOnly: options.boltedOnly ?? false });
}
