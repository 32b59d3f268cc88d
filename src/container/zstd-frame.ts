const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;

/**
 * How many bytes the zstd frame at the beginning of `bytes` takes (RFC 8878, section 3.1), without
 * decoding it: a decoder wants exactly a frame, and a qcow2 image says no exact length. Undefined
 * when no whole frame is there.
 */
export function zstdFrameLength(
  bytes: Buffer,
): { readonly length: number; readonly skippable: boolean } | undefined {
  if (bytes.length < 8) return undefined;
  const magic = bytes.readUInt32LE(0);
  if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
    const length = 8 + bytes.readUInt32LE(4);
    return length <= bytes.length ? { length, skippable: true } : undefined;
  }
  if (magic !== MAGIC) return undefined;
  const descriptor = bytes.readUInt8(4);
  const singleSegment = (descriptor >> 5) & 1;
  const contentSize = [singleSegment, 2, 4, 8][descriptor >> 6] ?? 0;
  const dictionaryId = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const checksum = (descriptor & 4) === 0 ? 0 : 4;
  let at = 5 + (1 - singleSegment) + dictionaryId + contentSize;
  for (let last = false; !last; ) {
    if (at + 3 > bytes.length) return undefined;
    const block = bytes.readUIntLE(at, 3);
    const type = (block >> 1) & 3;
    const size = block >> 3;
    if (type === 3) return undefined;
    last = (block & 1) === 1;
    at += 3 + (type === 1 ? 1 : size);
  }
  at += checksum;
  return at <= bytes.length ? { length: at, skippable: false } : undefined;
}
