import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AtomicFile } from '../../src/bytes/output.js';
import {
  BufferSource,
  type ByteSource,
  FileSource,
  IterableSource,
  openFile,
  SliceSource,
} from '../../src/bytes/source.js';
import { pattern, pipe, refusal } from '../container/support.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { allocated, BOTH, MIB, made, smallDevice, sparseFile, useAddon } from './support.js';

const fileSource = async (path: string): Promise<FileSource> => {
  const source = await openFile(path);
  if (!(source instanceof FileSource)) throw new Error('not a file');
  return source;
};

const small = smallDevice();

describe.each(BOTH)('%s', (_, on) => {
  // Where blocks of both stand alike, and where they do not.
  test.each([0, 1])('holes stay holes, at both ends too, %i bytes moved', async (moved) => {
    useAddon(on);
    const input = sparseFile(64 * MIB, [{ at: 31 * MIB + 77, bytes: pattern(100_000) }]);
    const { bytes, allocated } = await made(await openFile(input), async (file, source) => {
      await file.append(Buffer.alloc(moved, 1));
      await file.copy(source, 0, 64 * MIB);
      await file.hole(10 * MIB);
    });
    expect(bytes.length).toBe(moved + 74 * MIB);
    expect(bytes.subarray(moved, moved + 64 * MIB).equals(readFileSync(input))).toBe(true);
    expect(allocated).toBeLessThan(MIB);
  });

  test('offsets above 4 GiB, in and out', async () => {
    useAddon(on);
    const [low, high] = [2 ** 31 - 50_000, 2 ** 33 + 12_345];
    const input = sparseFile(2 ** 33 + 10 * MIB, [
      { at: low, bytes: pattern(100_000, 1) },
      { at: high, bytes: pattern(100_000, 2) },
    ]);
    const output = scratchFile('large');
    await using source = await openFile(input);
    await using file = await AtomicFile.create(output);
    await file.hole(2 ** 32 - 17);
    // Without the addon holes are read: a range that is not all of it.
    const [from, length] = on ? [0, 2 ** 33 + 10 * MIB] : [2 ** 33 - MIB, 3 * MIB];
    await file.copy(source, from, length);
    await file.copyTo(2 ** 32 - MIB - 17, source, low, 100_000);
    await file.commit();
    expect(statSync(output).size).toBe(2 ** 32 - 17 + length);
    expect(allocated(output)).toBeLessThan(2 * MIB);
    await using made = await open(output);
    const read = async (position: number): Promise<Buffer> =>
      (await made.read(Buffer.alloc(100_000), 0, 100_000, position)).buffer;
    const base = 2 ** 32 - 17 - from;
    expect((await read(base + high)).equals(pattern(100_000, 2))).toBe(true);
    if (on) expect((await read(base + low)).equals(pattern(100_000, 1))).toBe(true);
    expect((await read(2 ** 32 - MIB - 17)).equals(pattern(100_000, 1))).toBe(true);
  });

  test('another file system', async (context) => {
    useAddon(on);
    let folder: string | undefined;
    try {
      folder = mkdtempSync('/dev/shm/spapr-htab-test-');
    } catch {
      console.warn('\n!!! NO /dev/shm: COPIES BETWEEN FILE SYSTEMS ARE NOT TESTED !!!\n');
      return context.skip();
    }
    try {
      expect(statSync(folder).dev).not.toBe(statSync(scratch()).dev);
      const input = sparseFile(
        20 * MIB,
        [{ at: 5 * MIB + 3, bytes: pattern(2 * MIB) }],
        join(folder, 'in'),
      );
      const { bytes, allocated } = await made(await openFile(input), (file, source) =>
        file.copy(source, 1, 20 * MIB - 1),
      );
      expect(bytes.equals(readFileSync(input).subarray(1))).toBe(true);
      expect(allocated).toBeLessThan(4 * MIB);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('what was written before is replaced, by zeros too', async () => {
    useAddon(on);
    const input = sparseFile(MIB, [{ at: 0, bytes: pattern(1000) }]);
    const { bytes } = await made(await openFile(input), async (file, source) => {
      await file.append(Buffer.alloc(MIB, 0xff));
      await file.copyTo(0, source, 500, MIB - 500);
      await file.copy(source, 0, 10);
    });
    const expected = Buffer.concat([
      readFileSync(input).subarray(500),
      Buffer.alloc(500, 0xff),
      pattern(10),
    ]);
    expect(bytes.equals(expected)).toBe(true);
  });

  test('a failed copy is no part of the file, and may be tried again', async () => {
    useAddon(on);
    const input = scratchFile('in', pattern(3 * MIB));
    const source = await fileSource(input);
    truncateSync(input, 2 * MIB + 5);
    const { bytes } = await made(source, async (file) => {
      await file.append(Buffer.from('head'));
      expect(await refusal(file.copy(source, 1, 3 * MIB - 1))).toMatchObject({
        code: 'E_TRUNCATED',
        offset: 2 * MIB + 5,
        expected: `${3 * MIB - 1} bytes from 1`,
        actual: String(2 * MIB + 4),
      });
      expect(file.position).toBe(4);
      await file.append(Buffer.from('tail'));
      // A hole above it: what the failed copy left there must not show.
      await file.copy(new BufferSource(Buffer.alloc(MIB)), 0, MIB);
    });
    expect(bytes.equals(Buffer.concat([Buffer.from('headtail'), Buffer.alloc(MIB)]))).toBe(true);
  });

  test('a range beyond the source is refused before anything is written', async () => {
    useAddon(on);
    const whole = await openFile(scratchFile('in', pattern(1000)));
    await using source = new SliceSource(whole, 100, 500);
    await using file = await AtomicFile.create(scratchFile('out'));
    expect(await refusal(file.copy(source, 400, 101))).toMatchObject({
      code: 'E_TRUNCATED',
      offset: 500,
    });
    expect((await refusal(file.copy(source, 501, 1))).offset).toBe(501);
    for (const [from, length] of [
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [0, 2 ** 53],
      [2 ** 53 - 1, 1],
    ] as const) {
      expect((await refusal(file.copy(source, from, length))).code).toBe('E_USAGE');
    }
    expect((await refusal(file.copyTo(2 ** 53 - 1, source, 0, 1))).code).toBe('E_USAGE');
    expect(statSync(file.temporary).size).toBe(0);
  });

  test('progress in the source, and abort in the middle', async () => {
    useAddon(on);
    const size = 200 * MIB;
    const input = sparseFile(size, [{ at: 0, bytes: pattern(MIB) }]);
    await using source = await openFile(input);
    const output = scratchFile('out');
    {
      await using file = await AtomicFile.create(output);
      const seen: number[] = [];
      await file.copy(source, 3, size - 3, {
        onProgress: ({ position, total }) => {
          seen.push(position);
          expect(total).toBe(size);
        },
      });
      expect(seen.length).toBeGreaterThan(3);
      expect([...seen].sort((a, b) => a - b)).toEqual(seen);
      expect(seen.at(-1)).toBe(size);

      const controller = new AbortController();
      let calls = 0;
      const copying = file.copy(source, 0, size, {
        signal: controller.signal,
        onProgress: () => {
          if (++calls === 2) controller.abort(new Error('enough'));
        },
      });
      expect(await refusal(copying)).toMatchObject({
        code: 'E_ABORTED',
        cause: expect.objectContaining({ message: 'enough' }),
      });
      expect(calls).toBe(2);
    }
    expect(leftovers(output)).toEqual([]);
  });

  test('closing either file ends a copy, and waits for what is under way', async () => {
    useAddon(on);
    const input = sparseFile(
      300 * MIB,
      [0, 100, 200].map((n) => ({ at: n * MIB, bytes: pattern(8 * MIB) })),
    );
    for (const which of ['source', 'target']) {
      const source = await openFile(input);
      const output = scratchFile('out');
      const file = await AtomicFile.create(output);
      const copying = refusal(file.copy(source, 0, 300 * MIB));
      await new Promise((resolve) => setImmediate(resolve));
      await (which === 'source' ? source.close() : file.discard());
      expect(await copying).toMatchObject({ code: 'E_IO', actual: 'EBADF' });
      await file.discard();
      await source.close();
      expect(leftovers(output)).toEqual([]);
    }
  });

  test.runIf(small !== undefined)('a full device', async () => {
    useAddon(on);
    const folder = small ?? '';
    await using source = await openFile(scratchFile('in', pattern(2 * MIB)));
    const output = join(folder, 'out');
    {
      await using file = await AtomicFile.create(output);
      expect(await refusal(file.copy(source, 0, 2 * MIB))).toMatchObject({
        code: 'E_IO',
        actual: 'ENOSPC',
        message: expect.stringContaining(output),
      });
    }
    expect(readdirSync(folder)).toEqual([]);
    // What fits, fits.
    await using file = await AtomicFile.create(output);
    await file.copy(source, 0, MIB / 2);
    await file.commit();
    expect(readFileSync(output).equals(pattern(2 * MIB).subarray(0, MIB / 2))).toBe(true);
    rmSync(output);
  });
});

describe('sources that are no files', () => {
  test.each([1, 999, 65_536, 3_000_000])('a pipe in pieces of %i bytes', async (size) => {
    const input = Buffer.alloc(size === 1 ? 10_000 : 3 * MIB);
    pattern(5000).copy(input, 700);
    pattern(5000).copy(input, Math.floor(input.length / 2));
    const from = 600;
    const { bytes, allocated } = await made(pipe(input, size), async (file, source) => {
      await file.hole(12_345);
      await file.copy(source, from, input.length - from);
    });
    expect(bytes.subarray(12_345).equals(input.subarray(from))).toBe(true);
    expect(allocated).toBeLessThan(MIB);
  });

  test('a pipe that ends, that fails, and that is silent', async () => {
    await using file = await AtomicFile.create(scratchFile('out'));
    expect(await refusal(file.copy(pipe(pattern(1000)), 100, 2000))).toMatchObject({
      code: 'E_TRUNCATED',
      offset: 1000,
    });
    const failing = new IterableSource(
      (function* () {
        yield pattern(10);
        throw Object.assign(new Error('broken'), { code: 'EIO' });
      })(),
    );
    expect((await refusal(file.copy(failing, 0, 20))).code).toBe('E_IO');
    const silent = new IterableSource(
      (async function* () {
        yield pattern(10);
        await new Promise(() => undefined);
      })(),
    );
    const controller = new AbortController();
    const copying = refusal(file.copy(silent, 0, 20, { signal: controller.signal }));
    setImmediate(() => controller.abort());
    expect((await copying).code).toBe('E_ABORTED');
  });

  test('zeros that take no time let timers run', async () => {
    const zeros: ByteSource = {
      name: '<zeros>',
      size: undefined,
      seekable: true,
      read: async (target) => target.fill(0).length,
      close: async () => undefined,
      [Symbol.asyncDispose]: async () => undefined,
    };
    await using file = await AtomicFile.create(scratchFile('out'));
    const controller = new AbortController();
    setImmediate(() => controller.abort());
    const copying = file.copy(zeros, 0, 2 ** 50, { signal: controller.signal });
    expect((await refusal(copying)).code).toBe('E_ABORTED');
  });
});

function leftovers(output: string): string[] {
  return readdirSync(dirname(output)).filter((name) => name.includes(basename(output)));
}
