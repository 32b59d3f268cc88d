import { UsageError } from '../errors.js';

/** @throws UsageError `E_USAGE` for what is no bigint from 0 to 2^64-1 */
export function checkU64(name: string, value: bigint): bigint {
  if (typeof value === 'bigint' && value >= 0n && value < 1n << 64n) return value;
  throw new UsageError('E_USAGE', `${name} is not a u64`, {
    expected: 'a bigint from 0 to 2^64-1',
    actual: describe(value),
  });
}

/**
 * The index of a slot, which may be beyond the table.
 * @throws UsageError `E_USAGE` for what is no whole number from 0 on
 */
export function checkSlot(index: number): number {
  if (Number.isInteger(index) && index >= 0) return index;
  throw new UsageError('E_USAGE', 'the index of a slot is no whole number', {
    expected: 'a number from 0 on',
    actual: describe(index),
  });
}

/** A length in bytes. @throws UsageError `E_USAGE` for what is none */
export function checkLength(length: number): number {
  if (Number.isSafeInteger(length) && length >= 0) return length;
  throw new UsageError('E_USAGE', 'a length in bytes is no whole number', {
    actual: describe(length),
  });
}

/** @throws UsageError `E_USAGE` for what is none of `choices` */
export function checkChoice<T extends string>(name: string, value: T, choices: readonly T[]): T {
  if (choices.includes(value)) return value;
  throw new UsageError('E_USAGE', `there is no such ${name}`, {
    expected: choices.join(', '),
    actual: describe(value),
  });
}

function describe(value: unknown): string {
  return typeof value === 'string' ? value : `${String(value)} (${typeof value})`;
}
