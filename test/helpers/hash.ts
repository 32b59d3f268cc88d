/**
 * Entries and their places in `bigint`, straight from the definition of the hash: a second reading to
 * compare with, no code of the package.
 */
export interface PlainPage {
  /** 0: 256 MiB segments, 1: 1 TiB. */
  readonly b: 0 | 1;
  readonly vsid: bigint;
  /** Offset in the segment, in bytes. */
  readonly offset: bigint;
  readonly base: number;
  readonly actual: number;
  readonly secondary: boolean;
}

/** L and the LP field of each pair of page shifts. */
export const ENCODINGS = [
  { base: 12, actual: 12, large: false, lp: 0n },
  { base: 12, actual: 16, large: true, lp: 0x07n },
  { base: 12, actual: 24, large: true, lp: 0x38n },
  { base: 16, actual: 16, large: true, lp: 0x01n },
  { base: 16, actual: 24, large: true, lp: 0x08n },
  { base: 24, actual: 24, large: true, lp: 0x00n },
  { base: 34, actual: 34, large: true, lp: 0x03n },
] as const;

const HASH = (1n << 39n) - 1n;

export function plainHash({ b, vsid, offset, base }: PlainPage): bigint {
  const page = offset >> BigInt(base);
  return (b === 0 ? vsid ^ page : vsid ^ (vsid << 25n) ^ page) & HASH;
}

/** The PTEG of a page in a table of that order. */
export function plainPteg(page: PlainPage, order: number): bigint {
  const mask = (1n << BigInt(order - 7)) - 1n;
  const hash = plainHash(page);
  return (page.secondary ? ~hash : hash) & mask;
}

export function plainEntry(page: PlainPage, flags = 0n): Buffer {
  const encoding = ENCODINGS.find((e) => e.base === page.base && e.actual === page.actual);
  if (encoding === undefined) throw new Error('no such page size');
  const address = (page.vsid << (page.b === 0 ? 28n : 40n)) | page.offset;
  const avpn = (address >> BigInt(page.base)) << BigInt(page.base);
  const dw0 =
    (BigInt(page.b) << 62n) |
    ((avpn >> 23n) << 7n) |
    (encoding.large ? 4n : 0n) |
    (page.secondary ? 2n : 0n) |
    flags |
    1n;
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64BE(dw0);
  bytes.writeBigUInt64BE((encoding.lp << 12n) | 0x190n, 8);
  return bytes;
}

/**
 * The PTEG in a table of another order, by the arithmetic of Linux' resize_hpt_rehash_hpte: 64 bits,
 * and no check.
 */
export function kernelPteg(entry: Buffer, pteg: bigint, base: number, from: number, to: number) {
  const u64 = (value: bigint) => BigInt.asUintN(64, value);
  const dw0 = entry.readBigUInt64BE();
  const shift = BigInt(base);
  const oldMask = (1n << BigInt(from - 7)) - 1n;
  const newMask = (1n << BigInt(to - 7)) - 1n;
  const low = ((1n << shift) - 1n) >> 23n;
  const avpn = (dw0 >> 7n) & ((1n << 55n) - 1n) & u64(~low);
  const secondary = (dw0 & 2n) !== 0n;
  const place = secondary ? u64(~pteg) : pteg;
  const bits = (dw0 >> 62n) & 1n ? 17n : 5n;
  const vsid = avpn >> bits;
  const start = bits === 17n ? u64(vsid ^ (vsid << 25n)) : vsid;
  let offset = (avpn & ((1n << bits) - 1n)) << 23n;
  if (base < 23) offset |= u64(((start ^ place) & oldMask) << shift);
  const hash = start ^ (offset >> shift);
  return (secondary ? ~hash : hash) & newMask;
}
