import { FormatError, UsageError } from '../errors.js';
import { exceeded, type Limits } from '../limits.js';

/**
 * The order of an HPT: log2 of its size in bytes.
 *
 * 18 to 46 is what the architecture and Linux allow (PPC_MIN_HPT_ORDER and PPC_MAX_HPT_ORDER,
 * arch/powerpc/include/asm/kvm_book3s_64.h); QEMU clamps to the same range
 * (hw/ppc/spapr.c spapr_hpt_shift_for_ramsize).
 */
export const MIN_ORDER = 18;
export const MAX_ORDER = 46;

/** The largest order all of whose slots have an index of 32 bits, as block headers have them. */
export const MAX_INDEXED_ORDER = 36;

/** Bytes of one HPTE: two doublewords. */
export const HPTE_BYTES = 16;

export function isOrder(order: number): boolean {
  return Number.isInteger(order) && order >= MIN_ORDER && order <= MAX_ORDER;
}

/** Number of HPTE slots of a table of that order: 2^(order-4), below 2^43. */
export function slotsOfOrder(order: number): number {
  return 2 ** (order - 4);
}

/** Bytes of a table of that order. */
export function bytesOfOrder(order: number): number {
  return 2 ** order;
}

/** The order whose table has exactly that many slots, if there is one. */
export function orderOfSlots(slots: number): number | undefined {
  const order = Math.log2(slots) + 4;
  return isOrder(order) && slotsOfOrder(order) === slots ? order : undefined;
}

/** @throws FormatError `E_ORDER` for an order that no HPT can have; LimitError */
export function checkOrder(
  order: number,
  offset: number,
  limits: Limits,
  path = 'spapr/htab',
): number {
  if (isOrder(order)) {
    if (order <= limits.order) return order;
    throw exceeded(limits, 'order', 'the table is too large', { offset, path, actual: order });
  }
  throw new FormatError('E_ORDER', 'the order word is not the order of an HPT', {
    offset,
    path,
    expected: `${MIN_ORDER} to ${MAX_ORDER}, or 0xffffffff for a guest without HPT`,
    actual: String(order),
  });
}

/** The error for an order that the caller gave and no HPT can have. */
export function noSuchOrder(order: number): UsageError {
  return new UsageError('E_ORDER', 'no HPT has this order', {
    expected: `${MIN_ORDER} to ${MAX_ORDER}`,
    actual: String(order),
  });
}
