import type { FileHandle } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { AtomicFile } from '../../src/bytes/output.js';
import { readExactly, readUpTo } from '../../src/bytes/read.js';
import {
  BufferSource,
  type ByteSource,
  FileSource,
  IterableSource,
} from '../../src/bytes/source.js';
import { MAX_TRANSFER, writeFully } from '../../src/bytes/write.js';
import { pattern, pipe, refusal } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';

/** Node ends the whole process when one call of fs is for 2^31 bytes or more. */
const NODE_LIMIT = 2 ** 31;

/** A view so long that nothing touches most of it. */
const giant = (): Uint8Array => new Uint8Array(NODE_LIMIT + 5);

/** A file that notes how much each call is for, and does it all. */
function noted(): { handle: FileHandle; calls: number[] } {
  const calls: number[] = [];
  const call = (_: Uint8Array, __: number, length: number) => {
    calls.push(length);
    return Promise.resolve({ bytesRead: length, bytesWritten: length });
  };
  return { handle: { read: call, write: call } as unknown as FileHandle, calls };
}

describe('one call of fs', () => {
  test('reads no more than Node can', async () => {
    const { handle, calls } = noted();
    const source = new FileSource('file', handle, 2 ** 40);
    const count = await source.read(giant(), 7);
    expect(calls).toEqual([count]);
    expect(count).toBe(MAX_TRANSFER);
    expect(MAX_TRANSFER).toBeLessThan(NODE_LIMIT);
    await source.read(new Uint8Array(10), 7);
    expect(calls[1]).toBe(10);
  });

  test('writes no more than Node can, and all of it', async () => {
    const { handle, calls } = noted();
    await writeFully(handle, giant(), 0);
    expect(Math.max(...calls)).toBe(MAX_TRANSFER);
    expect(calls.reduce((sum, length) => sum + length)).toBe(NODE_LIMIT + 5);
  });

  test('reads back no more than Node can', async () => {
    await using file = await AtomicFile.create(scratchFile('out'));
    await file.append(pattern(100));
    const target = giant();
    expect(await file.read(target, 0)).toBe(100);
    expect(Buffer.from(target.buffer, 0, 100).equals(pattern(100))).toBe(true);
  });
});

describe('readExactly', () => {
  test.each([2 ** 53, Number.POSITIVE_INFINITY, -1, 1.5, Number.NaN])(
    '%d bytes are no length',
    async (length) => {
      const source = { name: 'endless', size: undefined, read: vi.fn() };
      const reading = readExactly(source as unknown as ByteSource, 0, length, 'a thing', 'it');
      await expect(reading).rejects.toThrow(RangeError);
      expect(source.read).not.toHaveBeenCalled();
    },
  );

  test('allocates nothing for bytes that the file does not have', async () => {
    const before = process.memoryUsage().arrayBuffers;
    const error = await refusal(readExactly(new BufferSource(pattern(9)), 3, 2 ** 40, 'a thing'));
    expect(error).toMatchObject({ code: 'E_TRUNCATED', offset: 3 });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });

  test('gives what is there, and says where it ends', async () => {
    const bytes = pattern(3_000_000);
    for (const source of [new BufferSource(bytes), pipe(bytes, 70_001)]) {
      const part = await readExactly(source, 5, 2_500_000, 'a thing');
      expect(part.equals(bytes.subarray(5, 2_500_005))).toBe(true);
    }
    for (const source of [new BufferSource(bytes), pipe(bytes, 70_001)]) {
      const error = await refusal(readExactly(source, 5, 2 ** 26, 'a thing'));
      expect(error).toMatchObject({ code: 'E_TRUNCATED' });
    }
  });
});

test('a piece of a pipe is not looked at once the next was asked for', async () => {
  function* overwritten(): Generator<Uint8Array> {
    const memory = Buffer.alloc(4);
    for (const byte of [1, 2, 3]) yield memory.fill(byte);
    memory.fill(9);
  }
  const source = new IterableSource(overwritten());
  const head = Buffer.alloc(12);
  expect(await readUpTo(source, Buffer.alloc(20), 0)).toBe(12);
  for (const from of [0, 4, 8, 11]) await source.read(head.subarray(from), from);
  expect(head.toString('hex')).toBe('010101010202020203030303');
});
