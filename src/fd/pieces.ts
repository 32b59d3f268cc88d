import { type ByteOrder, HEADER_BYTES } from '../htab/block.js';
import { HPTE_BYTES } from '../htab/order.js';

/**
 * Cuts bytes into pieces of whole blocks, each of `most` bytes at most; a block that is longer is one
 * piece. What is no whole block at the end is in the last piece.
 */
export function* wholeBlocks(
  bytes: Uint8Array,
  byteOrder: ByteOrder,
  most: number,
): Generator<Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const little = byteOrder === 'little';
  let from = 0;
  for (let at = 0; bytes.length - at >= HEADER_BYTES; ) {
    const next = at + HEADER_BYTES + view.getUint16(at + 4, little) * HPTE_BYTES;
    if (next > bytes.length) break;
    if (next - from > most && at > from) {
      yield bytes.subarray(from, at);
      from = at;
    }
    at = next;
  }
  if (from < bytes.length) yield bytes.subarray(from);
}
