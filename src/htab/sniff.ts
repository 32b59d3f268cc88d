import { type ByteOrder, HEADER_BYTES } from './block.js';
import { Coverage } from './coverage.js';
import { FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import { HPTE_BYTES } from './order.js';

/** What one byte order makes of the first bytes of a file of HTAB blocks. */
export interface Reading {
  readonly byteOrder: ByteOrder;
  /** Why the bytes cannot be blocks in this byte order, and where; undefined when they can. */
  readonly fault: { readonly offset: number; readonly reason: string } | undefined;
  /** Blocks looked at. */
  readonly blocks: number;
  /** It begins with a first pass: blocks from slot 0 on, without a gap. */
  readonly contiguous: boolean;
  /** Indices never go back. */
  readonly ascending: boolean;
  /** The order of the table that a contiguous first pass covers, when all of it was looked at. */
  readonly order: number | undefined;
}

/** Verdict of {@link sniffByteOrder}. */
export interface ByteOrderVerdict {
  /** `ambiguous`: both are possible; `neither`: these are no HTAB blocks. */
  readonly byteOrder: ByteOrder | 'ambiguous' | 'neither';
  readonly little: Reading;
  readonly big: Reading;
}

/**
 * Tells the byte order of HTAB block headers from the first bytes of a file, or says that it
 * cannot be told: nothing in the format records it.
 *
 * What counts, in this order: a byte order in which the bytes are no blocks at all (an entry
 * without V, a block that is empty or reaches beyond the end of the file) is out; one that gives a
 * complete first pass of a table wins, then one that gives a contiguous first pass, then one whose
 * indices ascend (kvm_htab_read reports in index order).
 *
 * @param bytes the beginning of the file
 * @param whole whether that is all of it
 * @param order the order of the table, where it is known
 */
export function sniffByteOrder(
  bytes: Uint8Array,
  whole: boolean,
  order?: number,
): ByteOrderVerdict {
  const little = readAs('little', bytes, whole, order);
  const big = readAs('big', bytes, whole, order);
  return { byteOrder: judge(little, big), little, big };
}

/**
 * Where the first header stands that does not read the same in both byte orders, if these are
 * blocks; it may be behind these bytes, when a block with entries leads there. Otherwise 0.
 */
export function tellingHeader(bytes: Uint8Array): number {
  const differ = (one: number, other: number): boolean => bytes[one] !== bytes[other];
  let at = 0;
  let nValid = 0;
  while (at + HEADER_BYTES <= bytes.length) {
    if (differ(at, at + 3) || differ(at + 1, at + 2)) return at;
    if (differ(at + 4, at + 5) || differ(at + 6, at + 7)) return at;
    nValid = (bytes[at + 4] ?? 0) * 0x101;
    at += HEADER_BYTES + nValid * HPTE_BYTES;
  }
  // Zeros are marks, if they are blocks at all: no reason to look for their end.
  return nValid > 0 ? at : 0;
}

function judge(little: Reading, big: Reading): ByteOrderVerdict['byteOrder'] {
  if (little.fault && big.fault) return 'neither';
  if (little.fault) return 'big';
  if (big.fault) return 'little';
  const tests: ((r: Reading) => boolean)[] = [
    (r) => r.order !== undefined,
    (r) => r.contiguous,
    (r) => r.ascending,
  ];
  for (const holds of tests) {
    if (holds(little) !== holds(big)) return holds(little) ? 'little' : 'big';
  }
  return 'ambiguous';
}

function readAs(
  byteOrder: ByteOrder,
  bytes: Uint8Array,
  whole: boolean,
  order: number | undefined,
): Reading {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const little = byteOrder === 'little';
  const slots = order === undefined ? 2 ** 42 : 2 ** (order - 4);
  let at = 0;
  let blocks = 0;
  let last = -1;
  let ascending = true;
  const coverage = new Coverage();
  const done = (reason?: string): Reading => ({
    byteOrder,
    fault: reason === undefined ? undefined : { offset: at, reason },
    blocks,
    contiguous: coverage.contiguous,
    ascending: ascending && blocks > 0,
    order: whole && at === bytes.length ? coverage.order : undefined,
  });
  while (at < bytes.length) {
    if (bytes.length - at < HEADER_BYTES) return done(whole ? 'a header is cut off' : undefined);
    const index = view.getUint32(at, little);
    const nValid = view.getUint16(at + 4, little);
    const nInvalid = view.getUint16(at + 6, little);
    const entries = at + HEADER_BYTES;
    if (nValid === 0 && nInvalid === 0) {
      // {0,0,0} may mark the end of a part; the kernel emits neither that nor {n,0,0}.
      if (index !== 0) return done('a block counts nothing');
      last = -1;
      at = entries;
      continue;
    }
    if (index + nValid + nInvalid > slots) return done('a block reaches beyond the table');
    const end = entries + nValid * HPTE_BYTES;
    if (whole && end > bytes.length) return done('the entries of a block are cut off');
    const lastEntry = Math.min(end, bytes.length) - HPTE_BYTES;
    for (let entry = entries; entry <= lastEntry; entry += HPTE_BYTES) {
      if (!((bytes[entry + FLAGS_BYTE] ?? 0) & FLAG_VALID)) return done('an entry is not valid');
    }
    coverage.add(index, nValid, nInvalid);
    if (index < last) ascending = false;
    last = index;
    blocks++;
    // Its header counts though its entries go on: behind a long block it may be the only one that
    // does not read the same in both byte orders.
    if (end > bytes.length) break;
    at = end;
  }
  // Marks alone, or zeros, are no evidence of anything.
  return done(blocks === 0 && at > 0 && at === bytes.length ? 'there is no block' : undefined);
}
