import type fc from 'fast-check';
import type { Valid } from '../target.js';

/** Values that are made into files by something that must be waited for. */
const PENDING = new WeakMap<Buffer, () => Promise<Buffer>>();

/** Files of generated values; {@link finished} has their bytes. */
export function sampled<T>(
  values: fc.Arbitrary<T>,
  make: (value: T) => Promise<Buffer>,
): fc.Arbitrary<Valid> {
  return values.map((value) => {
    const bytes = Buffer.alloc(0);
    PENDING.set(bytes, () => make(value));
    return { bytes };
  });
}

export async function finished(valid: Valid): Promise<Valid> {
  const make = PENDING.get(valid.bytes);
  return make === undefined ? valid : { ...valid, bytes: await make() };
}
