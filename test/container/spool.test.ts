import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BufferSource, FileSource, IterableSource } from '../../src/bytes/source.js';
import { spool } from '../../src/container/spool.js';
import { pattern, pipe, readAll, refusal } from './support.js';

const before = process.env.TMPDIR;
let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spool-'));
  process.env.TMPDIR = folder;
});
afterAll(async () => {
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  await rm(folder, { recursive: true });
});
const leftovers = (): Promise<string[]> => readdir(folder);

describe('spool', () => {
  test.each([0, 1, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 3_000_000])(
    '%i bytes',
    async (size) => {
      const bytes = pattern(size);
      await using copy = await spool(pipe(bytes, 9999));
      expect(copy.seekable).toBe(true);
      expect(copy.size).toBe(size);
      expect((await readAll(copy)).equals(bytes)).toBe(true);
      const last = Buffer.alloc(1);
      expect(await copy.read(last, Math.max(0, size - 1))).toBe(Math.min(size, 1));
      expect(await leftovers()).toEqual([]);
    },
  );

  test('zeros are holes', async () => {
    const bytes = Buffer.alloc(20 << 20);
    pattern(70_000).copy(bytes, 8 << 20);
    await using copy = await spool(pipe(bytes, 1 << 16));
    expect((await readAll(copy)).equals(bytes)).toBe(true);
    if (!(copy instanceof FileSource)) throw new Error('not a file');
    const { blocks, mode } = await copy.handle.stat();
    expect(blocks * 512).toBeLessThan(1 << 20);
    expect(mode & 0o777).toBe(0o600);
  });

  test('what is seekable stays', async () => {
    const source = new BufferSource(Buffer.alloc(3));
    expect(await spool(source)).toBe(source);
  });

  test('the limit is named, and nothing is left', async () => {
    const source = new Watched(pattern(10_000));
    expect(await refusal(spool(source, { limits: { spoolBytes: 9_999 } }))).toMatchObject({
      code: 'E_LIMIT',
      expected: expect.stringContaining('9999 bytes'),
    });
    expect(source.closed).toBe(true);
    expect(await leftovers()).toEqual([]);
    await using copy = await spool(pipe(pattern(10_000)), { limits: { spoolBytes: 10_000 } });
    expect(copy.size).toBe(10_000);
  });

  test('progress, and abort', async () => {
    const controller = new AbortController();
    const positions: number[] = [];
    const copying = spool(pipe(Buffer.alloc(8 << 20, 1), 1 << 20), {
      signal: controller.signal,
      onProgress: ({ position }) => {
        positions.push(position);
        if (positions.length === 3) controller.abort();
      },
    });
    expect((await refusal(copying)).code).toBe('E_ABORTED');
    expect(positions).toEqual([1 << 20, 2 << 20, 3 << 20]);
  });

  test('no folder for it', async () => {
    process.env.TMPDIR = join(folder, 'nonexistent');
    try {
      expect((await refusal(spool(pipe(pattern(10))))).code).toBe('E_IO');
    } finally {
      process.env.TMPDIR = folder;
    }
  });
});

class Watched extends IterableSource {
  closed = false;

  constructor(bytes: Uint8Array) {
    super([bytes]);
  }

  override close(): Promise<void> {
    this.closed = true;
    return super.close();
  }
}
