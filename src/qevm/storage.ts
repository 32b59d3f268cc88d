import { FormatError } from '../errors.js';
import type { PayloadWalker } from './elements.js';

/**
 * Iterable sections that carry disks beside a guest: `dirty-bitmap` (migration/block-dirty-bitmap.c,
 * QEMU 2.12 and later) and `block` (migration/block.c, until 9.0). Walked for their length only.
 */

const BITMAP = {
  EOS: 0x01,
  ZEROES: 0x02,
  BITMAP_NAME: 0x04,
  DEVICE_NAME: 0x08,
  START: 0x10,
  COMPLETE: 0x20,
  BITS: 0x40,
  EXTRA_FLAGS: 0x80,
} as const;
const BITMAP_KNOWN = 0x7f;

/** Chunks of flags, names, and what the flags announce, until a chunk of EOS. */
export const walkDirtyBitmap: PayloadWalker<void> = async function* (reader) {
  const path = 'dirty-bitmap';
  for (;;) {
    const what = 'a chunk of dirty-bitmap';
    await reader.ensure(1, what);
    const offset = reader.offset;
    let flags = reader.u8();
    if (flags & BITMAP.EXTRA_FLAGS) {
      await reader.ensure(1, what);
      flags = (flags << 8) | reader.u8();
      if (flags & BITMAP.EXTRA_FLAGS) {
        await reader.ensure(2, what);
        flags = flags * 0x10000 + reader.u16();
      }
    }
    // Extra flag bytes exist in the format, but no meaning was ever given to them.
    if (flags > 0xff || (flags & ~BITMAP_KNOWN) !== 0) {
      throw new FormatError('E_ELEMENT', 'a chunk of dirty bitmaps has unknown flags', {
        offset,
        path,
        actual: `0x${flags.toString(16)}`,
      });
    }
    for (const flag of [BITMAP.DEVICE_NAME, BITMAP.BITMAP_NAME]) {
      if (!(flags & flag)) continue;
      await reader.ensure(1, what);
      await reader.skip(1 + reader.peek(), what);
    }
    // u32 granularity, u8 flags: the comment in QEMU's source says u64, its code writes u32.
    if (flags & BITMAP.START) await reader.skip(5, what);
    else if (flags & BITMAP.BITS) {
      await reader.skip(12, what);
      if (!(flags & BITMAP.ZEROES)) {
        await reader.ensure(8, what);
        const at = reader.offset;
        const length = reader.u64();
        if (length > 10240n) {
          throw new FormatError('E_ELEMENT', 'a chunk of dirty bitmaps is too long', {
            offset: at,
            path,
            expected: 'at most 10 KiB',
            actual: String(length),
          });
        }
        await reader.skip(Number(length), what);
      }
    }
    yield;
    if (flags & BITMAP.EOS) return;
  }
};

const BLOCK = { DEVICE_BLOCK: 0x01, EOS: 0x02, PROGRESS: 0x04, ZERO_BLOCK: 0x08 } as const;
/** Bytes of a block; the last of a device is padded to it. */
const BLOCK_BYTES = 1024 * 1024;

/** Words of sector and flags (9 bits), each perhaps with a device name and 1 MiB of its data. */
export const walkBlock: PayloadWalker<void> = async function* (reader) {
  for (;;) {
    await reader.ensure(8, "a word of 'block'");
    const offset = reader.offset;
    const flags = Number(reader.u64() & 0x1ffn);
    if (flags & BLOCK.DEVICE_BLOCK) {
      await reader.ensure(1, "a device name of 'block'");
      await reader.skip(1 + reader.peek(), "a device name of 'block'");
      if (!(flags & BLOCK.ZERO_BLOCK)) await reader.skip(BLOCK_BYTES, "data of 'block'");
    } else if (!(flags & (BLOCK.PROGRESS | BLOCK.EOS))) {
      throw new FormatError('E_ELEMENT', 'a word of the block section has no meaning', {
        offset,
        path: 'block',
        actual: `flags 0x${flags.toString(16)}`,
      });
    }
    yield;
    if (flags & BLOCK.EOS) return;
  }
};
