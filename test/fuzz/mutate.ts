import type { Dice } from './dice.js';
import { type Field, type Layout, readField, type Span, writeField } from './layout.js';

/** A file and where its structure is. */
export interface Shaped {
  readonly bytes: Buffer;
  readonly layout: Layout;
}

/** Bytes that a mutation may add at most. */
const MOST_GROWTH = 64 * 1024;

/**
 * A damaged copy: some numbers, stretches or bits are other ones, most of them where the layout says
 * that they mean something.
 * @param donor a file of the same kind, whose parts may come in
 */
export function mutate(file: Shaped, donor: Shaped, dice: Dice): Buffer {
  // Fields keep their places as long as nothing is inserted or left out: numbers first.
  const bytes = Buffer.from(file.bytes);
  const turns = 1 + dice.below(dice.chance(0.7) ? 3 : 9);
  let reshape = 0;
  for (let turn = 0; turn < turns; turn++) {
    if (dice.chance(0.3)) reshape++;
    else if (file.layout.fields.length > 0 && dice.chance(0.75)) changeField(bytes, file, dice);
    else changeBytes(bytes, dice);
  }
  let shaped: Shaped = { bytes, layout: file.layout };
  for (; reshape > 0; reshape--) {
    // What stands behind has moved, and is what it was in part only: good enough to aim at.
    shaped = { bytes: changeShape(shaped, donor, dice), layout: file.layout };
  }
  return shaped.bytes;
}

function changeField(bytes: Buffer, file: Shaped, dice: Dice): void {
  const { fields } = file.layout;
  const field = dice.pick(fields);
  if (field === undefined) return;
  const value = readField(bytes, field);
  if (value === undefined) return;
  const other = dice.pick(fields);
  const copied = other && readField(bytes, other);
  writeField(bytes, field, interesting(value, field, bytes.length, copied ?? 0n, dice));
}

/** A number that is near a limit of something. */
function interesting(
  value: bigint,
  { at, width }: Field,
  size: number,
  copied: bigint,
  dice: Dice,
): bigint {
  const bits = BigInt(width * 8);
  const left = BigInt(size - at);
  const near = BigInt(dice.below(5) - 2);
  return dice.pick<() => bigint>([
    () => value + near,
    () => value ^ (1n << BigInt(dice.below(width * 8))),
    () => near,
    () => (1n << bits) - 1n + near,
    () => (1n << (bits - 1n)) + near,
    () => (1n << BigInt(dice.below(width * 8))) + near,
    () => BigInt(size) + near,
    () => left + near,
    () => value * 2n,
    () => value / 2n,
    () => copied + near,
    // Orders of tables and their neighbours; flags of RAM pages; sizes of pages.
    () => BigInt(dice.pick([17, 18, 19, 24, 46, 47, 0xffff, 0x10, 0x20, 0x200, 4096, 65536])),
  ])();
}

function changeBytes(bytes: Buffer, dice: Dice): void {
  if (bytes.length === 0) return;
  // Half of them at the beginning, where there is more structure.
  const at = dice.below(dice.chance(0.5) ? Math.min(bytes.length, 256) : bytes.length);
  const count = Math.min(bytes.length - at, 1 + dice.below(8));
  switch (dice.below(4)) {
    case 0:
      bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.below(8));
      break;
    case 1:
      bytes.fill(dice.pick([0, 0xff, 0x7f, 0x80, 1]), at, at + count);
      break;
    case 2:
      for (let i = 0; i < count; i++) bytes[at + i] = dice.below(256);
      break;
    default:
      bytes.copyWithin(at, dice.below(bytes.length), dice.below(bytes.length));
  }
}

/** Makes it longer or shorter, or puts its parts in another order. */
function changeShape(file: Shaped, donor: Shaped, dice: Dice): Buffer {
  const { bytes, layout } = file;
  const one = stretch(file, dice);
  const other = stretch(file, dice);
  const part = bytes.subarray(one.from, one.to);
  const cut = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts);
  const before = bytes.subarray(0, one.from);
  const behind = bytes.subarray(one.to);
  const at = other.from;
  switch (dice.below(8)) {
    case 0:
      return Buffer.from(bytes.subarray(0, dice.chance(0.5) ? one.to : dice.below(bytes.length)));
    case 1:
      return cut(before, behind);
    case 2: {
      const times = part.length === 0 ? 1 : Math.min(1 + dice.below(40), MOST_GROWTH / part.length);
      return cut(bytes.subarray(0, one.to), ...Array(Math.ceil(times)).fill(part), behind);
    }
    case 3:
      return cut(bytes.subarray(0, at), part.subarray(0, MOST_GROWTH), bytes.subarray(at));
    case 4: {
      const foreign = stretch(donor, dice);
      const inserted = donor.bytes.subarray(foreign.from, foreign.to).subarray(0, MOST_GROWTH);
      return cut(before, inserted, dice.chance(0.5) ? behind : bytes.subarray(one.from));
    }
    case 5: {
      const foreign = stretch(donor, dice);
      return cut(before, donor.bytes.subarray(foreign.from)).subarray(
        0,
        bytes.length + MOST_GROWTH,
      );
    }
    case 6: {
      const word = dice.pick(layout.words ?? []);
      if (word !== undefined) return cut(before, word, dice.chance(0.7) ? behind : part, behind);
      return cut(before, Buffer.alloc(dice.below(64), dice.below(256)), bytes.subarray(one.from));
    }
    default: {
      const count = dice.below(dice.chance(0.9) ? 32 : 5000);
      return cut(bytes, Buffer.alloc(count, dice.pick([0, 0xff, dice.below(256)])));
    }
  }
}

/** A part of the file: one that the layout knows, or any. */
function stretch({ bytes, layout }: Shaped, dice: Dice): Span {
  const known = dice.chance(0.75) ? dice.pick(layout.spans) : undefined;
  if (known !== undefined) {
    const from = Math.min(known.from, bytes.length);
    return { from, to: Math.min(Math.max(from, known.to), bytes.length) };
  }
  const from = dice.below(bytes.length + 1);
  return { from, to: Math.min(bytes.length, from + 1 + dice.below(64)) };
}
