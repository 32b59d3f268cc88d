import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const PIECE = 1 << 20;

/** @throws Error unless two files have the same bytes, with the place of the first difference */
export function requireSame(path: string, expected: string): void {
  const [a, b] = [openSync(path, 'r'), openSync(expected, 'r')];
  try {
    const [size, other] = [fstatSync(a).size, fstatSync(b).size];
    if (size !== other) {
      throw new Error(`${path} has ${size} bytes, ${expected} has ${other}`);
    }
    const [left, right] = [Buffer.alloc(PIECE), Buffer.alloc(PIECE)];
    for (let at = 0; at < size; at += PIECE) {
      const count = Math.min(PIECE, size - at);
      if (readSync(a, left, 0, count, at) < count || readSync(b, right, 0, count, at) < count) {
        throw new Error(`${path} or ${expected} got shorter`);
      }
      if (left.subarray(0, count).equals(right.subarray(0, count))) continue;
      const first = left.findIndex((byte, i) => byte !== right[i]);
      throw new Error(`${path} is not ${expected}: byte ${at + first} differs`);
    }
  } finally {
    closeSync(a);
    closeSync(b);
  }
}
