import { UnsupportedError, UsageError } from '../errors.js';

/** The error for a guest that has no HPT where one is needed. */
export function noHpt(): UnsupportedError {
  return new UnsupportedError(
    'E_NO_HPT',
    'the guest has no hashed page table: its MMU runs in radix mode (-1 in spapr/htab)',
  );
}

/** The error for blocks of a table whose size nothing tells. */
export function orderRequired(): UsageError {
  return new UsageError(
    'E_ORDER_REQUIRED',
    'the order of the table is not in this input and cannot be told from it; give it (--order N)',
  );
}
