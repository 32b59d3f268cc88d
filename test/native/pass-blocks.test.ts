import { spawn } from 'node:child_process';
import { closeSync, ftruncateSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadAddon, type PassedBlocks } from '../../src/addon/load.js';
import { addon, MIB } from '../bytes/support.js';
import { blocksOf, counted, SHAPE_NAMES, type Shape, turned } from '../helpers/blocks.js';
import { scratchFile } from '../helpers/sources.js';
import { LINUX } from './support.js';

const { EBADF, EISDIR, ESPIPE, ENOSPC } = constants.errno;
const ANY = Number.MAX_SAFE_INTEGER;

interface Range {
  readonly from?: number;
  readonly to?: number;
  readonly length?: number;
  readonly slots?: number;
  readonly little?: readonly [from: boolean, to: boolean];
}

/** Big-endian blocks as they are, without an end, unless it says otherwise. */
function pass(input: number, output: number, range: Range = {}): Promise<PassedBlocks> {
  const { passBlocks } = addon();
  if (passBlocks === undefined) throw new Error('not there');
  const { from = 0, to = 0, length = ANY, slots = ANY, little = [false, false] } = range;
  return passBlocks(input, from, output, to, length, slots, ...little);
}

/** How far blocks go that are whole and fit the table, as plain as can be. */
function plain(bytes: Buffer, slots: number, little: boolean): Buffer {
  let at = 0;
  while (bytes.length - at >= 8) {
    const index = little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
    const nValid = little ? bytes.readUInt16LE(at + 4) : bytes.readUInt16BE(at + 4);
    const nInvalid = little ? bytes.readUInt16LE(at + 6) : bytes.readUInt16BE(at + 6);
    const size = 8 + 16 * nValid;
    if (index === 0 && nValid === 0 && nInvalid === 0) break;
    if (index + nValid + nInvalid > slots || size > bytes.length - at) break;
    at += size;
  }
  return bytes.subarray(0, at);
}

/** Big-endian headers again. */
function turnedBack(little: Buffer): Buffer {
  const out = Buffer.from(little);
  for (let at = 0; at < little.length; at += 8 + 16 * little.readUInt16LE(at + 4)) {
    out.subarray(at, at + 4).swap32();
    out.subarray(at + 4, at + 8).swap16();
  }
  return out;
}

describe.runIf(LINUX)('passBlocks', () => {
  const segment = fc.record({
    shape: fc.constantFrom<Shape>(...SHAPE_NAMES),
    bytes: fc.oneof(fc.nat(3000), fc.nat(1_200_000)),
    seed: fc.nat(),
  });
  const plan = fc.record({
    segments: fc.array(segment, { maxLength: 4 }),
    fromLittle: fc.boolean(),
    toLittle: fc.boolean(),
    from: fc.nat(10_000),
    to: fc.nat(10_000),
    slots: fc.constantFrom(ANY, 2 ** 24, 100_000, 0),
    /** How much of it there is, and of that, how much is asked for. */
    there: fc.double({ min: 0.7, max: 1, noNaN: true }),
    asked: fc.double({ min: 0.7, max: 1, noNaN: true }),
    mark: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
  });

  /** Of several pieces, whatever else is drawn. */
  const large = {
    segments: [{ shape: 'short runs' as Shape, bytes: 3 * MIB, seed: 1 }],
    fromLittle: true,
    toLittle: false,
    from: 3,
    to: 8,
    slots: ANY,
    there: 1,
    asked: 1,
    mark: null,
  };

  test('passes whole blocks that fit, and says how many', async () => {
    const path = scratchFile('in');
    const target = scratchFile('out');
    let passed = 0;
    await fc.assert(
      fc.asyncProperty(
        plan,
        async ({ segments, from, to, slots, there, asked, mark, ...little }) => {
          const { fromLittle, toLittle } = little;
          const big = Buffer.concat(
            segments.map(({ shape, bytes, seed }) => blocksOf(shape, bytes, seed)),
          );
          const all = fromLittle ? turned(big) : big;
          const at = Math.floor((mark ?? 1) * all.length);
          all.fill(0, at, Math.min(at + 8, all.length));
          const bytes = all.subarray(0, Math.floor(all.length * there));
          writeFileSync(path, Buffer.concat([Buffer.alloc(from, 0xee), bytes]));
          writeFileSync(target, Buffer.alloc(to, 0xdd));
          const length = Math.floor(bytes.length * asked);
          const whole = plain(bytes.subarray(0, length), slots, fromLittle);
          const expected = fromLittle ? turnedBack(whole) : whole;
          await using input = await open(path);
          await using output = await open(target, 'r+');
          const range = { from, to, length, slots, little: [fromLittle, toLittle] } as const;
          expect(await pass(input.fd, output.fd, range)).toEqual({
            bytes: whole.length,
            ...counted(expected),
            errno: 0,
            reading: false,
          });
          const written = readFileSync(target);
          expect(written.subarray(0, to).equals(Buffer.alloc(to, 0xdd))).toBe(true);
          const out = written.subarray(to, to + whole.length);
          expect(out.equals(toLittle ? turned(expected) : expected)).toBe(true);
          passed += whole.length;
        },
      ),
      { numRuns: 40, examples: [[large]] },
    );
    expect(passed).toBeGreaterThan(MIB);
  });

  const blocks = blocksOf('short runs', 3 * MIB);
  const path = LINUX ? scratchFile('blocks', blocks) : '';
  const none = { bytes: 0, blocks: 0, valid: 0 };
  const opened = async (flags = 'r+'): Promise<FileHandle> =>
    open(scratchFile('out', Buffer.alloc(10)), flags);

  test('ends with the file, whatever is asked for', async () => {
    await using input = await open(path);
    await using output = await opened();
    const whole = { bytes: blocks.length, ...counted(blocks), errno: 0, reading: false };
    expect(await pass(input.fd, output.fd)).toEqual(whole);
    expect(await pass(input.fd, output.fd, { from: ANY - 5, length: 0 })).toMatchObject(none);
    expect(await pass(input.fd, output.fd, { from: blocks.length })).toMatchObject({
      ...none,
      errno: 0,
    });
    // A block that the range has whole, and the file has not.
    const last = blocksOf('dense blocks', 1);
    const cut = scratchFile('cut', last.subarray(0, last.length - 1));
    await using short = await open(cut);
    expect(await pass(short.fd, output.fd)).toEqual({ ...none, errno: 0, reading: false });
    await using nothing = await open('/dev/null');
    expect(await pass(nothing.fd, output.fd)).toMatchObject({ ...none, errno: 0 });
  });

  test('takes a sparse file for an end mark', async () => {
    const empty = scratchFile('sparse', Buffer.alloc(0));
    await using input = await open(empty, 'r+');
    ftruncateSync(input.fd, 2 ** 40);
    await using output = await opened();
    expect(await pass(input.fd, output.fd)).toMatchObject({ ...none, errno: 0 });
    expect((await output.stat()).size).toBe(10);
  });

  test('says which of the files it cannot use, and why', async () => {
    await using input = await open(path);
    await using output = await opened();
    await using readOnly = await opened('r');
    await using writeOnly = await opened('a');
    await using folder = await open('/');
    for (const [inFd, outFd, errno, reading] of [
      [99_999, output.fd, EBADF, true],
      [input.fd, 99_999, EBADF, false],
      [input.fd, readOnly.fd, EBADF, false],
      // There, bytes would go to the end, wherever they belong. It cannot be read either.
      [input.fd, writeOnly.fd, EBADF, false],
      [writeOnly.fd, output.fd, EBADF, true],
      [folder.fd, output.fd, EISDIR, true],
    ] as const) {
      const result = await pass(inFd, outFd);
      expect(result).toMatchObject({ errno, reading });
    }
    expect((await writeOnly.stat()).size).toBe(10);
    expect((await output.stat()).size).toBe(10);
    const closed = await open(path);
    const { fd } = closed;
    await closed.close();
    expect(await pass(fd, output.fd)).toMatchObject({ errno: EBADF, reading: true });
  });

  test('an error of the writes stops it, soon', async () => {
    const long = scratchFile('long', blocksOf('one entry a block', 40 * MIB));
    await using input = await open(long);
    await using full = await open('/dev/full', 'r+');
    const result = await pass(input.fd, full.fd);
    expect(result).toMatchObject({ errno: ENOSPC, reading: false });
    const { child } = addon();
    const { readFd, writer } = child?.pipe(4096) ?? {};
    if (readFd === undefined || writer === undefined) throw new Error('no pipe');
    expect(await pass(input.fd, writer.fd)).toMatchObject({ errno: ESPIPE, reading: false });
    expect(await pass(readFd, full.fd)).toMatchObject({ errno: ESPIPE, reading: true });
    writer.close();
    closeSync(readFd);
  });

  test('several at once, into one file', async () => {
    const part = blocksOf('one entry a block', 4 * MIB);
    const source = scratchFile('in', part);
    await using input = await open(source);
    const target = scratchFile('out', Buffer.alloc(0));
    await using output = await open(target, 'r+');
    const step = 24 * 20_000;
    const starts = Array.from({ length: Math.ceil(part.length / step) }, (_, at) => at * step);
    const results = await Promise.all(
      starts.map((from) => pass(input.fd, output.fd, { from, to: from, length: step })),
    );
    expect(results.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(part.length);
    expect(readFileSync(target).equals(part)).toBe(true);
  });

  test('serves threads that are ended in the middle', async () => {
    const source = scratchFile('in', blocksOf('one entry a block', 24 * MIB));
    const target = scratchFile('out', Buffer.alloc(0));
    const script = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { openSync } = require('node:fs');
      const { passBlocks } = require(workerData.path);
      const [input, output] = [openSync(workerData.source), openSync(workerData.target, 'r+')];
      for (let at = 0; at < 20; at++) passBlocks(input, 0, output, 0, 2 ** 40, 2 ** 40, false, true);
      parentPort.postMessage('begun');`;
    for (let turn = 0; turn < 4; turn++) {
      const { path } = loadAddon();
      const worker = new Worker(script, { eval: true, workerData: { path, source, target } });
      await new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
      await worker.terminate();
    }
    expect(statSync(target).size).toBeLessThanOrEqual(statSync(source).size);
  });

  test('one thread is enough, where there is no other', async () => {
    const bytes = blocksOf('short runs', 3 * MIB, 1);
    const files = [scratchFile('blocks', bytes), scratchFile('passed')];
    const script = fileURLToPath(new URL('alone.mjs', import.meta.url));
    const child = spawn(process.execPath, [script, String(loadAddon().path), ...files], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const piece of child.stdout) output += piece;
    const { helped, alone, results } = JSON.parse(output);
    expect({ helped, alone }).toEqual({ helped: 1, alone: 0 });
    expect(results[0]).toMatchObject({ bytes: bytes.length, errno: 0 });
    expect(results[1]).toEqual(results[0]);
  });
});
