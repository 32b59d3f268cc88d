import { readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { FileSource, openFile, SliceSource } from '../../src/bytes/source.js';
import { pattern } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';
import { addon, COPIES, MIB, made, sparseFile } from './support.js';

afterEach(() => vi.restoreAllMocks());

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
