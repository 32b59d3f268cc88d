import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { readUpTo } from '../../src/bytes/read.js';
import { PipeSink } from '../../src/bytes/sink.js';
import { BufferSource } from '../../src/bytes/source.js';
import { CompressedSink } from '../../src/container/compress.js';
import { openDecompressed } from '../../src/container/decompress.js';
import { installed } from '../qemu/guest.js';

/** Bytes that no compressor makes smaller: what they fill cannot be put off. */
function noise(length: number): Buffer {
  const pieces: Buffer[] = [];
  for (let i = 0; i * 32 < length; i++) {
    pieces.push(createHash('sha256').update(String(i)).digest());
  }
  return Buffer.concat(pieces).subarray(0, length);
}

const KINDS = ['gzip', 'bzip2', 'xz', 'zstd', 'lzop', 'lz4'] as const;
const BYTES = noise(3_000_000);

describe.each(KINDS)('%s', (kind) => {
  const there = kind === 'gzip' || installed(kind, `output compressed with ${kind}`);

  test.skipIf(!there)('comes back as it was', async () => {
    const out: Buffer[] = [];
    const sink = new PipeSink({ write: async (bytes) => void out.push(Buffer.from(bytes)) });
    await using compressed = await CompressedSink.open(kind, sink);
    for (let at = 0; at < BYTES.length; at += 300_007) {
      const piece = Buffer.from(BYTES.subarray(at, at + 300_007));
      await compressed.append(piece);
      // What was taken may be reused.
      piece.fill(0);
    }
    await compressed.hole(100_000);
    expect(compressed.position).toBe(BYTES.length + 100_000);
    await compressed.finish();
    await using source = await openDecompressed(new BufferSource(Buffer.concat(out)), kind);
    const back = Buffer.alloc(BYTES.length + 200_000);
    const length = await readUpTo(source, back, 0);
    expect(length).toBe(BYTES.length + 100_000);
    expect(back.subarray(0, BYTES.length).equals(BYTES)).toBe(true);
    expect(back.subarray(BYTES.length).every((byte) => byte === 0)).toBe(true);
  });

  test.skipIf(!there)('a sink that fails ends it, whatever is under way', async () => {
    const full = new Error('the disk is full');
    for (const good of [0, 1, 3]) {
      let left = good;
      const write = async (): Promise<void> => {
        if (left-- <= 0) throw full;
      };
      await using compressed = await CompressedSink.open(kind, new PipeSink({ write }));
      const all = async (): Promise<void> => {
        for (let at = 0; at < BYTES.length; at += 1_000_000) {
          await compressed.append(BYTES.subarray(at, at + 1_000_000));
        }
        await compressed.finish();
      };
      await expect(all()).rejects.toBe(full);
    }
  });
});
