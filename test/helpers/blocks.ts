import { random } from './random.js';

/** How blocks of a table may look: entries and empty slots of each, from a random number below 1. */
const SHAPES = {
  'one entry a block': () => [1, 0],
  'short runs': (x: number) => [1 + Math.floor(x * 12), Math.floor(x * 1000) % 5],
  'empty slots only': (x: number) => [0, 1 + Math.floor(x * 20)],
  'dense blocks': () => [65_535, 3],
  'of every kind': (x: number) =>
    x < 0.001 ? [65_535, 65_535] : x < 0.01 ? [Math.floor(x * 300_000), 1] : [x > 0.5 ? 2 : 0, 1],
} satisfies Record<string, (x: number) => [number, number]>;

export type Shape = keyof typeof SHAPES;
export const SHAPE_NAMES = Object.keys(SHAPES) as Shape[];

/** The order that {@link blocksOf} makes blocks for. */
export const ORDER = 28;
const SLOTS = 2 ** (ORDER - 4);

/** At least so many bytes of whole blocks, headers big-endian, entries valid. */
export function blocksOf(shape: Shape, bytes: number, seed = 1): Buffer {
  const next = random(seed);
  const headers: [index: number, nValid: number, nInvalid: number][] = [];
  let length = 0;
  // Read in the other byte order, it is beyond the table.
  let index = 1;
  while (length < bytes) {
    const [nValid, nInvalid] = SHAPES[shape](next());
    if (index + nValid + nInvalid > SLOTS) index = 1;
    headers.push([index, nValid, nInvalid]);
    index += nValid + nInvalid + 1;
    length += 8 + 16 * nValid;
  }
  const out = Buffer.alloc(length);
  let at = 0;
  for (const [index, nValid, nInvalid] of headers) {
    out.writeUInt32BE(index, at);
    out.writeUInt16BE(nValid, at + 4);
    out.writeUInt16BE(nInvalid, at + 6);
    at += 8;
    for (let entry = 0; entry < nValid; entry++, at += 16) {
      out.writeUInt32BE(index + entry, at);
      out.writeUInt32BE(0x81, at + 4);
      out.writeUInt32BE(seed >>> 0, at + 8);
      out.writeUInt32BE((index * 0x1000 + 0x192) >>> 0, at + 12);
    }
  }
  return out;
}

/** The same blocks with headers that are little-endian. */
export function turned(big: Buffer): Buffer {
  const out = Buffer.from(big);
  for (let at = 0; at < big.length; ) {
    const nValid = big.readUInt16BE(at + 4);
    out.writeUInt32LE(big.readUInt32BE(at), at);
    out.writeUInt16LE(nValid, at + 4);
    out.writeUInt16LE(big.readUInt16BE(at + 6), at + 6);
    at += 8 + 16 * nValid;
  }
  return out;
}

/** How many blocks those are, and how many entries they have. */
export function counted(big: Buffer): { blocks: number; valid: number } {
  let blocks = 0;
  let valid = 0;
  for (let at = 0; at < big.length; blocks++) {
    const nValid = big.readUInt16BE(at + 4);
    valid += nValid;
    at += 8 + 16 * nValid;
  }
  return { blocks, valid };
}

const MARK = Buffer.alloc(8);

/** Parts as the kernel frames them, with a block {0,0,0} behind each if wanted. */
export function kernelFile(parts: readonly Buffer[], little: boolean, marked = false): Buffer {
  return Buffer.concat(
    parts.flatMap((part) => [little ? turned(part) : part, ...(marked ? [MARK] : [])]),
  );
}

/** Parts as payloads of the section. */
export function sectionFile(parts: readonly Buffer[], little: boolean): Buffer {
  const order = Buffer.of(0, 0, 0, ORDER);
  const zero = Buffer.alloc(4);
  return Buffer.concat([
    order,
    ...parts.flatMap((part) => [zero, little ? turned(part) : part, MARK]),
  ]);
}
