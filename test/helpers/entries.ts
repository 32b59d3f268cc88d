/** An entry as its two doublewords. */
export type Entry = readonly [dw0: bigint, dw1: bigint];

/** First doubleword of a valid entry: 4 KiB page, 256 MB segment. */
export const V = (avpn: number | bigint): bigint => (BigInt(avpn) << 7n) | 1n;
/** Second doubleword: PP=2, M, C and R. */
export const R = (rpn: number | bigint): bigint => (BigInt(rpn) << 12n) | 0x192n;

/** `n` entries whose first doublewords count up, as of pages one after another. */
export const run = (n: number, dw0: bigint, dw1: bigint): Entry[] =>
  Array.from({ length: n }, (_, i) => [dw0 + (BigInt(i) << 7n), dw1]);

/** One block as bytes. */
export function block(
  index: number,
  entries: readonly Entry[],
  nInvalid = 0,
  little = true,
): Buffer {
  const bytes = Buffer.alloc(8 + 16 * entries.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(0, index, little);
  view.setUint16(4, entries.length, little);
  view.setUint16(6, nInvalid, little);
  entries.forEach(([dw0, dw1], i) => {
    view.setBigUint64(8 + 16 * i, dw0);
    view.setBigUint64(16 + 16 * i, dw1);
  });
  return bytes;
}
