import { spawn } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { loadAddon, type WalkedPages } from '../../src/addon/load.js';
import { addon, MIB } from '../bytes/support.js';
import { scratchFile } from '../helpers/sources.js';
import { u64 } from '../helpers/stream.js';
import { LINUX } from './support.js';

const MOST = 2 ** 53 - 1;
const PAGE = 4096;
const ZERO_AGAIN = 0x22;
const PAGE_AGAIN = 0x28;

function walkPages(...args: [number, number, number, number]): Promise<WalkedPages> {
  const { walkPages } = addon();
  if (walkPages === undefined) throw new Error('not there');
  return walkPages(...args);
}

/** A file of the bytes, open for reading until the end of the test. */
async function fileOf(bytes: Uint8Array): Promise<FileHandle> {
  const file = await open(scratchFile('pages', bytes));
  onTestFinished(() => file.close());
  return file;
}

/** What is inside pages would be entries too, if anything looked there. */
const CONTENT = Buffer.alloc(PAGE, Buffer.concat([u64(PAGE_AGAIN), u64(0x10)]));

const page = (address: bigint | number, flags = PAGE_AGAIN): Buffer =>
  Buffer.concat([u64(BigInt(address) | BigInt(flags)), CONTENT]);
const zero = (address: bigint | number, fill = 0, flags = ZERO_AGAIN): Buffer =>
  Buffer.concat([u64(BigInt(address) | BigInt(flags)), Buffer.of(fill)]);

/** The same by the words of the format, one entry at a time. */
function expected(bytes: Buffer, position: number, end: number, usedLength: number): WalkedPages {
  const stop = Math.min(bytes.length, end);
  let [pages, zeroPages, at] = [0, 0, position];
  while (stop - at >= 8) {
    const word = bytes.readBigUInt64BE(at);
    const flags = Number(word & 0xfffn);
    if (word - BigInt(flags) >= BigInt(usedLength)) break;
    if (flags === PAGE_AGAIN && stop - at >= 8 + PAGE) {
      pages++;
      at += 8 + PAGE;
    } else if (flags === ZERO_AGAIN && stop - at >= 9 && bytes[at + 8] === 0) {
      zeroPages++;
      at += 9;
    } else {
      break;
    }
  }
  return { position: at, pages, zeroPages };
}

/** An entry on the edge of the first piece, which begins where a page of the file does. */
async function cutByTheEdge(edge: number, skews: readonly number[]): Promise<void> {
  const file = await open(scratchFile('pages'), 'w+');
  onTestFinished(() => file.close());
  const word = [page(0x5000), zero(0x5000), zero(0x5000, 3), page(0x5000, 8), u64(0x10)];
  for (const entry of word) {
    for (const cut of [0, 1, 7, 8, 9, 10, 4095, 4103, 4104, 4105]) {
      for (const skew of skews) {
        // Zero pages too, so that any length can be had to within nine bytes.
        const begin = skew + ((edge - cut - skew) % 9);
        const length = edge - cut - begin;
        const pages = Buffer.alloc(length - (length % (8 + PAGE)), page(0));
        const zeros = Buffer.alloc(length - pages.length, zero(0));
        const front = [Buffer.alloc(begin), pages, zeros];
        const bytes = Buffer.concat([...front, entry, page(0x6000), zero(0)]);
        await file.truncate(bytes.length);
        await file.write(bytes, 0, bytes.length, 0);
        const args = [begin, bytes.length, 0x10000] as const;
        expect(await walkPages(file.fd, ...args)).toEqual(expected(bytes, ...args));
      }
    }
  }
}

/** Several entries, and pieces where it is read, cut off at any place, by the end of the file or that given. */
async function severalPieces(): Promise<void> {
  const entry = fc.oneof(
    { weight: 30, arbitrary: fc.record({ kind: fc.constant('page'), times: fc.nat(300) }) },
    { weight: 30, arbitrary: fc.record({ kind: fc.constant('zero'), times: fc.nat(9000) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('filled'), times: fc.constant(1) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('eos'), times: fc.constant(1) }) },
  );
  const make = { page: page(0x1000), zero: zero(0x2000), filled: zero(0, 9), eos: u64(0x10) };
  let passed = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry, { minLength: 3, maxLength: 12 }),
      fc.nat(10_000),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.boolean(),
      async (entries, lead, cut, end, flip) => {
        const body = entries.map(({ kind, times }) => {
          const one = make[kind as keyof typeof make];
          return Buffer.alloc(one.length * times, one);
        });
        const whole = Buffer.concat([Buffer.alloc(lead, 0x22), ...body]);
        // The last few bytes too.
        const bytes = whole.subarray(0, lead + Math.ceil((whole.length - lead) * (1 - cut ** 3)));
        const at = lead + Math.floor((bytes.length - lead) * end);
        if (flip && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ 0x11;
        const file = await open(scratchFile('pages', bytes));
        try {
          for (const stop of [MOST, bytes.length, at, lead]) {
            const args = [lead, stop, 0x3000] as const;
            const result = await walkPages(file.fd, ...args);
            expect(result).toEqual(expected(bytes, ...args));
            passed = Math.max(passed, result.position - lead);
          }
        } finally {
          await file.close();
        }
      },
    ),
    { numRuns: 75 },
  );
  expect(passed).toBeGreaterThan(2 * MIB);
}

describe.runIf(LINUX)('walkPages', () => {
  test('passes over pages and zero pages, and stops in front of anything else', async () => {
    const run = [page(0), zero(0x1000), zero(0x2000), page(0x3000)];
    const length = 2 * (8 + PAGE) + 2 * 9;
    for (const stopper of [
      u64(0x10),
      page(0x4000, 0x08),
      zero(0x4000, 0, 0x02),
      zero(0x4000, 1),
      zero(0x4000, 0xff),
      page(0x4000, 0x2a),
      page(0x4000, 0x68),
      page(0x4000, 0x128),
      page(0x4000, 0x228),
      page(0x4000, 0x828),
      page(0x4000, 0),
      page(0x10000),
      page(2n ** 53n),
      page(2n ** 63n),
      page(2n ** 64n - 4096n),
      zero(2n ** 64n - 4096n),
    ]) {
      const bytes = Buffer.concat([...run, stopper, ...run]);
      const file = await fileOf(bytes);
      expect(await walkPages(file.fd, 0, MOST, 0x10000)).toEqual({
        position: length,
        pages: 2,
        zeroPages: 2,
      });
      // The one in front, from there.
      const alone = { position: length, pages: 0, zeroPages: 0 };
      expect(await walkPages(file.fd, length, MOST, 0x10000)).toEqual(alone);
    }
  });

  test('knows the end of a block', async () => {
    const file = await fileOf(Buffer.concat([page(0), zero(0x1000), page(0x2000)]));
    for (const [usedLength, pages, zeroPages] of [
      [0, 0, 0],
      [1, 1, 0],
      [0x1000, 1, 0],
      [0x1001, 1, 1],
      [0x2000, 1, 1],
      [0x3000, 2, 1],
      [MOST, 2, 1],
    ] as const) {
      expect(await walkPages(file.fd, 0, MOST, usedLength)).toMatchObject({ pages, zeroPages });
    }
    const high = await fileOf(page(2n ** 53n - 4096n));
    expect(await walkPages(high.fd, 0, MOST, MOST)).toMatchObject({ pages: 1 });
  });

  test('an entry is one wherever the edge of a window cuts it', () => cutByTheEdge(16 * MIB, [1]));
  test('several entries, cut off at any place', severalPieces);

  test('positions above 4 GiB, and a hole, which is no page', async () => {
    const path = scratchFile('high');
    const fd = openSync(path, 'w+');
    onTestFinished(() => closeSync(fd));
    const at = 2 ** 33 + 4093;
    const bytes = Buffer.concat(Array.from({ length: 600 }, (_, i) => page(i * PAGE)));
    writeSync(fd, bytes, 0, bytes.length, at);
    ftruncateSync(fd, at + 2 ** 32);
    expect(await walkPages(fd, at, MOST, MOST)).toEqual({
      position: at + bytes.length,
      pages: 600,
      zeroPages: 0,
    });
  });

  test('what cannot be read is the end', async () => {
    const bytes = page(0);
    const nowhere = { position: 0, pages: 0, zeroPages: 0 };
    await using folder = await open('/');
    await using writing = await open(scratchFile('out', bytes), 'r+');
    const closed = await open(scratchFile('closed', bytes));
    const { fd } = closed;
    await closed.close();
    const writeOnly = openSync(scratchFile('write-only', bytes), 'a');
    onTestFinished(() => closeSync(writeOnly));
    const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
    onTestFinished(() => void child.stdin.end());
    const pipe = (child.stdin as unknown as { _handle: { fd: number } })._handle.fd;
    expect(pipe).toBeGreaterThan(2);
    for (const bad of [folder.fd, fd, writeOnly, pipe, 2 ** 31 - 1]) {
      expect(await walkPages(bad, 0, MOST, MOST)).toEqual(nowhere);
    }
    expect(await walkPages(writing.fd, 0, MOST, MOST)).toMatchObject({ pages: 1 });
    const behind = { ...nowhere, position: 10_000 };
    expect(await walkPages(writing.fd, 10_000, MOST, MOST)).toEqual(behind);
    expect(await walkPages(writing.fd, MOST, MOST, MOST)).toEqual({ ...nowhere, position: MOST });
    expect(await walkPages(writing.fd, 0, 0, MOST)).toEqual(nowhere);
  });

  test('a file that is cut off and grows meanwhile', async () => {
    const bytes = Buffer.alloc(1000 * (8 + PAGE), page(0));
    const fd = openSync(scratchFile('changing'), 'w+');
    onTestFinished(() => closeSync(fd));
    for (let turn = 0; turn < 60; turn++) {
      writeSync(fd, bytes, 0, bytes.length, 0);
      const walks = Array.from({ length: 3 }, () => walkPages(fd, 0, MOST, MOST));
      ftruncateSync(fd, Math.floor((bytes.length * turn) / 60));
      if (turn % 2 === 1) ftruncateSync(fd, bytes.length);
      for (const { position, pages, zeroPages } of await Promise.all(walks)) {
        expect([position, zeroPages]).toEqual([pages * (8 + PAGE), 0]);
        expect(position).toBeLessThanOrEqual(bytes.length);
      }
    }
  });

  test('a file that is cut off while most of it is still to come, of several windows', async () => {
    const most = 12_000;
    const bytes = Buffer.alloc(most * (8 + PAGE), page(0));
    const fd = openSync(scratchFile('windows'), 'w+');
    onTestFinished(() => closeSync(fd));
    let shorter = 0;
    for (let turn = 0; turn < 12; turn++) {
      writeSync(fd, bytes, 0, bytes.length, 0);
      const walking = walkPages(fd, 0, bytes.length, MOST);
      const stop = performance.now() + turn / 3;
      while (performance.now() < stop);
      ftruncateSync(fd, 777);
      const { position, pages } = await walking;
      expect(position).toBe(pages * (8 + PAGE));
      if (pages < most) shorter++;
    }
    expect(shorter).toBeGreaterThan(0);
  });

  test('what ends inside a page of the file is not whole, though a mapping has zeros there', async () => {
    const bytes = Buffer.concat([page(0), page(0), page(0)]);
    for (const cut of [1, 2, 8, 9, 4095, 4096, 4097, 4103]) {
      const file = await fileOf(bytes.subarray(0, bytes.length - cut));
      const result = await walkPages(file.fd, 0, bytes.length, MOST);
      expect(result).toEqual({ position: 2 * (8 + PAGE), pages: 2, zeroPages: 0 });
    }
  });

  // The addon handles this signal, for files that are cut off while they are mapped.
  test.each([
    ['no other handler', [], 'SIGBUS'],
    ['one from before', ['before'], 'told 1'],
    ['one from after', ['after'], 'told 1'],
    ['one from before that is gone', ['before', 'removed'], 'SIGBUS'],
  ])('SIGBUS means to a process what it did before: %s', async (_, words, ends) => {
    const path = scratchFile('bus', Buffer.alloc(500 * (8 + PAGE), page(0)));
    const script = fileURLToPath(new URL('sigbus.mjs', import.meta.url));
    // AddressSanitizer would be the one from before.
    const env = {
      ...process.env,
      ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:handle_sigbus=0`,
    };
    const child = spawn(process.execPath, [script, String(loadAddon().path), path, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env,
    });
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    let output = '';
    for await (const piece of child.stdout) output += piece;
    // Half of the pages are left of a file that is cut off.
    expect(output).toBe(`500 250${ends === 'SIGBUS' ? '' : ` ${ends}`}`);
    expect(await ended).toBe(ends === 'SIGBUS' ? 'SIGBUS' : null);
  });
});

// Last: when the listener goes, so does the addon's handler, without which nothing is mapped.
describe.runIf(LINUX)('walkPages where something else handles SIGBUS: the file is read', () => {
  const listener = () => {};
  beforeAll(async () => {
    const file = await open(scratchFile('first', page(0)));
    await walkPages(file.fd, 0, MOST, MOST);
    await file.close();
    process.on('SIGBUS', listener);
  });
  afterAll(() => void process.off('SIGBUS', listener));

  test('an entry is one wherever the edge of a piece cuts it', () =>
    cutByTheEdge(MIB / 2, [0, 1, 4000]));
  test('several pieces, cut off at any place', severalPieces);
});
