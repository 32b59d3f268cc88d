import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
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
import {
  addon,
  allocated,
  COPIES,
  type Piece,
  smallDevice,
  sparseFile,
  useAddon,
} from './support.js';

const MIB = 1 << 20;
const BOTH = [
  ['with the addon', true],
  ['without the addon', false],
] as const;

afterEach(() => vi.restoreAllMocks());

const fileSource = async (path: string): Promise<FileSource> => {
  const source = await openFile(path);
  if (!(source instanceof FileSource)) throw new Error('not a file');
  return source;
};

/** What is made of a source, and how many bytes it takes. */
async function made(
  source: ByteSource,
  job: (file: AtomicFile, source: ByteSource) => Promise<void>,
  path = scratchFile('made'),
): Promise<{ bytes: Buffer; allocated: number }> {
  await using input = source;
  await using file = await AtomicFile.create(path);
  await job(file, input);
  await file.commit();
  return { bytes: readFileSync(path), allocated: allocated(path) };
}

describe.runIf(COPIES)('the addon', () => {
  test('is what copies files, slices of them, and slices of slices', async () => {
    const copyRange = vi.spyOn(addon(), 'copyRange');
    const path = scratchFile('in', pattern(300_000));
    const slice = new SliceSource(new SliceSource(await openFile(path), 1000), 500, 200_000);
    const { bytes } = await made(slice, async (file, source) => {
      await file.append(Buffer.from('head'));
      await file.copy(source, 10, 100_000);
    });
    expect(
      bytes.equals(Buffer.concat([Buffer.from('head'), pattern(300_000).subarray(1510, 101_510)])),
    ).toBe(true);
    expect(
      copyRange.mock.calls.map((call) => call.filter((_, at) => at % 2 === 1 || at === 4)),
    ).toEqual([[1510, 4, 100_000]]);
  });

  test('does not copy for a class that reads in its own way', async () => {
    class Inverted extends FileSource {
      override async read(target: Uint8Array, position: number): Promise<number> {
        const count = await super.read(target, position);
        for (let at = 0; at < count; at++) target[at] = ~(target[at] ?? 0);
        return count;
      }
    }
    const path = scratchFile('in', Buffer.alloc(100, 0x0f));
    const source = new Inverted(path, await open(path), 100);
    const { bytes } = await made(source, (file) => file.copy(source, 0, 100));
    expect(bytes.equals(Buffer.alloc(100, 0xf0))).toBe(true);
  });

  test('takes what it was said to take, and nothing else', () => {
    const copyRange = addon().copyRange as unknown as (...args: unknown[]) => unknown;
    for (const args of [[], [0, 0, 0, 0], [0, 0, 0, 0, -1], [0, '0', 0, 0, 0], [-1, 0, 0, 0, 0]]) {
      expect(() => copyRange(...args)).toThrow(TypeError);
    }
  });

  test('says whose fault it was, and does not append', async () => {
    const { copyRange } = addon();
    if (copyRange === undefined) throw new Error('not there');
    await using input = await open(scratchFile('in', pattern(1000)));
    const path = scratchFile('out', Buffer.alloc(10));
    await using readOnly = await open(path);
    await using appending = await open(path, 'a');
    await using writing = await open(path, 'r+');
    const EBADF = 9;
    expect(await copyRange(input.fd, 0, readOnly.fd, 0, 10)).toMatchObject({
      copied: 0,
      errno: EBADF,
      reading: false,
    });
    expect(await copyRange(input.fd, 0, appending.fd, 0, 10)).toMatchObject({
      copied: 0,
      errno: EBADF,
      reading: false,
    });
    expect(await copyRange(99_999, 0, writing.fd, 0, 10)).toMatchObject({
      copied: 0,
      errno: EBADF,
      reading: true,
    });
    expect(readFileSync(path).equals(Buffer.alloc(10))).toBe(true);
    // Ends with the input, a hole or not.
    expect(await copyRange(input.fd, 900, writing.fd, 0, 200)).toMatchObject({
      copied: 100,
      errno: 0,
    });
    expect(await copyRange(input.fd, 2000, writing.fd, 0, 200)).toMatchObject({
      copied: 0,
      errno: 0,
    });
    await using hole = await open(sparseFile(5000, []));
    expect(await copyRange(hole.fd, 100, writing.fd, 0, 9000)).toMatchObject({
      copied: 4900,
      errno: 0,
    });
  });

  test('reads and writes what the kernel does not copy', async () => {
    const { copyRange } = addon();
    if (copyRange === undefined) throw new Error('not there');
    const path = scratchFile('out', Buffer.alloc(0));
    await using output = await open(path, 'r+');
    await using zeros = await open('/dev/zero');
    // A device without size or holes; its zeros become one.
    expect(await copyRange(zeros.fd, 0, output.fd, 5, 3 * MIB)).toEqual({
      copied: 3 * MIB,
      shared: 0,
      errno: 0,
      reading: false,
    });
    expect(statSync(path).size).toBe(0);
    // One that is shorter than asked and says so by reading nothing.
    await using nothing = await open('/dev/null');
    expect(await copyRange(nothing.fd, 0, output.fd, 0, 10)).toMatchObject({ copied: 0, errno: 0 });
    await using random = await open('/dev/urandom');
    expect(await copyRange(random.fd, 0, output.fd, 7, 2 * MIB)).toMatchObject({ copied: 2 * MIB });
    expect(statSync(path).size).toBe(2 * MIB + 7);
    expect(new Set(readFileSync(path).subarray(7)).size).toBe(256);
  });

  test('serves several threads, and one that is ended in the middle', async () => {
    const size = 192 * MIB;
    const input = sparseFile(size, [
      { at: 0, bytes: pattern(32 * MIB) },
      { at: 160 * MIB, bytes: pattern(32 * MIB) },
    ]);
    const script = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.url).then(async ({ AtomicFile, openFile }) => {
        const source = await openFile(workerData.input);
        const file = await AtomicFile.create(workerData.output);
        parentPort.postMessage('begin');
        for (let at = 0; at < workerData.turns; at++) await file.copy(source, 0, ${size});
        await file.commit();
        parentPort.postMessage('end');
      });`;
    const url = new URL('../../dist/index.js', import.meta.url).href;
    const start = (output: string, turns: number) =>
      new Worker(script, { eval: true, workerData: { url, input, output, turns } });
    const message = (worker: Worker) =>
      new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
    const output = scratchFile('from-worker');
    const whole = start(output, 1);
    const ended = new Promise((resolve, reject) => {
      whole.once('exit', resolve);
      whole.once('error', reject);
    });
    for (let turn = 0; turn < 5; turn++) {
      const victim = start(scratchFile('victim'), 1000);
      await message(victim);
      await new Promise((resolve) => setTimeout(resolve, turn * 3));
      expect(await victim.terminate()).toBe(1);
    }
    await ended;
    expect(readFileSync(output).equals(readFileSync(input))).toBe(true);
  });
});

const K4 = 4096;
/** Mostly round numbers, where blocks begin and end, and some that are not. */
const place = (max: number) =>
  fc.oneof(
    fc.nat(max),
    fc.nat(Math.floor(max / K4)).map((n) => n * K4),
    fc.nat(Math.floor(max / 65536)).map((n) => n * 65536),
  );
const SIZE = 1.5 * MIB;
const plan = fc.record({
  pieces: fc.array(
    fc.record({
      at: place(SIZE - 1),
      length: place(400_000),
      seed: fc.nat(),
      zero: fc.boolean(),
    }),
    { maxLength: 6 },
  ),
  steps: fc.array(
    fc.oneof(
      fc.record({ type: fc.constant('copy' as const), from: place(SIZE), length: place(SIZE) }),
      fc.record({ type: fc.constant('hole' as const), length: place(300_000) }),
      fc.record({ type: fc.constant('bytes' as const), length: fc.nat(5000) }),
      fc.record({
        type: fc.constant('copyTo' as const),
        from: place(SIZE),
        length: place(SIZE),
        to: place(2 * SIZE),
      }),
    ),
    { maxLength: 8 },
  ),
});

function modelOf(
  input: Buffer,
  steps: typeof plan extends fc.Arbitrary<infer P>
    ? P extends { steps: infer S }
      ? S
      : never
    : never,
) {
  let model = Buffer.alloc(0);
  let position = 0;
  const put = (bytes: Uint8Array, at: number): void => {
    if (bytes.length === 0) return;
    const grown = Buffer.alloc(Math.max(model.length, at + bytes.length));
    model.copy(grown);
    grown.set(bytes, at);
    model = grown;
  };
  for (const step of steps) {
    if (step.type === 'copyTo') put(input.subarray(step.from, step.from + step.length), step.to);
    else {
      const bytes =
        step.type === 'copy'
          ? input.subarray(step.from, step.from + step.length)
          : step.type === 'bytes'
            ? pattern(step.length)
            : undefined;
      // A hole is only passed over: what a positional copy left there stays.
      if (bytes !== undefined) put(bytes, position);
      else if (step.type === 'hole' && position + step.length > model.length) {
        const grown = Buffer.alloc(position + step.length);
        model.copy(grown);
        model = grown;
      }
      position += bytes?.length ?? step.length;
    }
  }
  return model;
}

test('any ranges, holes and offsets: the same file with the addon and without, and as a model', async () => {
  await fc.assert(
    fc.asyncProperty(plan, async ({ pieces, steps }) => {
      const path = sparseFile(
        SIZE,
        pieces.map(({ at, length, seed, zero }): Piece => {
          const bytes = zero ? Buffer.alloc(length) : pattern(length, seed);
          return { at, bytes: bytes.subarray(0, SIZE - at) };
        }),
      );
      const input = readFileSync(path);
      const clamped = steps.map((step) =>
        'from' in step ? { ...step, length: Math.min(step.length, SIZE - step.from) } : step,
      );
      const model = modelOf(input, clamped);
      const run = async (file: AtomicFile, source: ByteSource): Promise<void> => {
        for (const step of clamped) {
          if (step.type === 'copy') await file.copy(source, step.from, step.length);
          else if (step.type === 'hole') await file.hole(step.length);
          else if (step.type === 'bytes') await file.append(pattern(step.length));
          else await file.copyTo(step.to, source, step.from, step.length);
        }
      };
      for (const [how, on] of BOTH) {
        useAddon(on);
        const output = scratchFile('made');
        const { bytes } = await made(await openFile(path), run, output);
        expect(bytes.equals(model), how).toBe(true);
        rmSync(output);
      }
      rmSync(path);
    }),
    { numRuns: 100 },
  );
});

const small = smallDevice();

describe.each(BOTH)('%s', (_, on) => {
  test('holes stay holes, at both ends too', async () => {
    useAddon(on);
    const input = sparseFile(64 * MIB, [{ at: 31 * MIB + 77, bytes: pattern(100_000) }]);
    const { bytes, allocated } = await made(await openFile(input), async (file, source) => {
      await file.append(Buffer.from('x'));
      await file.copy(source, 0, 64 * MIB);
      await file.hole(10 * MIB);
    });
    expect(bytes.length).toBe(1 + 74 * MIB);
    expect(bytes.subarray(1, 1 + 64 * MIB).equals(readFileSync(input))).toBe(true);
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
