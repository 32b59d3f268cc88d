import { MAX_BLOCK_BYTES } from '../htab/block.js';

/** Bytes of the largest record: a block of 65535 entries and its counts. */
export const MAX_RECORD_BYTES = MAX_BLOCK_BYTES + 64;
const MAX_DEPTH = 4;

/**
 * Where the MessagePack value at `at` ends, or undefined when it goes on behind `end`. It is found
 * before the value is decoded, as the decoder limits neither nesting nor the size of a whole value.
 * @throws RangeError for types that no archive has, and for nesting deeper than any record's
 */
export function endOfRecord(
  view: DataView,
  at: number,
  end: number,
  depth = 0,
): number | undefined {
  if (depth > MAX_DEPTH) throw new RangeError('values are nested too deeply');
  if (at >= end) return undefined;
  const type = view.getUint8(at);
  const sized = (bytes: 1 | 2 | 4): number | undefined => {
    if (at + 1 + bytes > end) return undefined;
    if (bytes === 1) return view.getUint8(at + 1);
    return bytes === 2 ? view.getUint16(at + 1) : view.getUint32(at + 1);
  };
  const text = (header: number, length: number | undefined): number | undefined =>
    length === undefined || at + header + length > end ? undefined : at + header + length;
  const list = (header: number, count: number | undefined): number | undefined => {
    let next: number | undefined = count === undefined ? undefined : at + header;
    for (let i = 0; i < (count ?? 0) && next !== undefined; i++) {
      next = endOfRecord(view, next, end, depth + 1);
    }
    return next;
  };
  const double = (n: number | undefined): number | undefined => (n === undefined ? n : 2 * n);
  const fixed = (length: number): number | undefined =>
    at + length > end ? undefined : at + length;

  if (type <= 0x7f || type >= 0xe0) return at + 1;
  if (type <= 0x8f) return list(1, 2 * (type & 15));
  if (type <= 0x9f) return list(1, type & 15);
  if (type <= 0xbf) return text(1, type & 31);
  switch (type) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return at + 1;
    case 0xc4:
    case 0xd9:
      return text(2, sized(1));
    case 0xc5:
    case 0xda:
      return text(3, sized(2));
    case 0xc6:
    case 0xdb:
      return text(5, sized(4));
    case 0xcc:
    case 0xd0:
      return fixed(2);
    case 0xcd:
    case 0xd1:
      return fixed(3);
    case 0xca:
    case 0xce:
    case 0xd2:
      return fixed(5);
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return fixed(9);
    case 0xdc:
      return list(3, sized(2));
    case 0xdd:
      return list(5, sized(4));
    case 0xde:
      return list(3, double(sized(2)));
    case 0xdf:
      return list(5, double(sized(4)));
    default:
      throw new RangeError(`type 0x${type.toString(16)} has no place in an archive`);
  }
}
