import { readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { cli } from '../helpers/cli.js';
import { scratchFile } from '../helpers/sources.js';
import {
  chunk,
  configuration,
  end,
  full,
  header,
  hpte,
  part,
  ram,
  start,
  str8,
  tail,
  u32,
  u64,
} from '../helpers/stream.js';

const LIMIT_MIB = 150;
const FOOTERS = { footers: true };
const GIB = 2 ** 30;

/** A round of zero pages over [from, to) of the block, in pieces. */
function* zeroPages(name: string, from: number, to: number): Generator<Buffer> {
  const pages = 65536;
  for (let at = from; at < to; at += pages * 4096) {
    const words = Buffer.alloc(pages * 9);
    for (let i = 0; i < pages; i++) {
      const address = at + i * 4096;
      words.writeUInt32BE(Math.floor(address / 2 ** 32), i * 9);
      words.writeUInt32BE((address % 2 ** 32) + 0x22, i * 9 + 4);
    }
    // The first page of a round names its block.
    if (at === from) {
      const word = Buffer.from(words.subarray(0, 8));
      word.writeUInt32BE(word.readUInt32BE(4) & ~0x20, 4);
      yield Buffer.concat([word, str8(name), Buffer.of(0)]);
      yield words.subarray(9);
    } else {
      yield words;
    }
  }
  yield ram.empty;
}

const ORDER = 34;
const SLOTS = 2 ** (ORDER - 4);

/** Chunks of one entry each, all over the table, then a second pass over some of them. */
function* chunks(count: number): Generator<Buffer> {
  for (const pass of [1, 2]) {
    let pieces: Buffer[] = [];
    for (let i = 0; i < count; i += pass) {
      const index = i * Math.floor(SLOTS / count);
      pieces.push(pass === 1 ? chunk(index, [hpte(i % 0xffff)]) : chunk(index, [], 1));
      if (pieces.length === 4096) {
        yield Buffer.concat(pieces);
        pieces = [];
      }
    }
    yield Buffer.concat(pieces);
  }
}

const CHUNKS = 400_000;
const VALID = CHUNKS / 2;

function* guestOf64GiB(): Generator<Buffer> {
  const name = 'ppc_spapr.ram';
  yield header();
  yield configuration('pseries-7.2');
  yield start(2, 'ram', 4, ram.setup(name, 64 * GIB), FOOTERS);
  yield start(5, 'spapr/htab', 1, u32(ORDER), FOOTERS);
  yield Buffer.concat([Buffer.of(2), u32(2)]);
  yield* zeroPages(name, 0, 64 * GIB);
  yield Buffer.concat([Buffer.of(0x7e), u32(2), Buffer.of(2), u32(5), u32(0)]);
  yield* chunks(CHUNKS);
  yield Buffer.concat([u64(0), Buffer.of(0x7e), u32(5)]);
  yield end(2, ram.empty, FOOTERS);
  yield end(5, Buffer.concat([u32(0), u64(0)]), FOOTERS);
  yield full(0, 'timer', 2, Buffer.alloc(24), FOOTERS);
  yield part(2, ram.empty, FOOTERS);
  yield tail([{ name: 'timer', size: 24 }]);
}

test('a guest of 64 GiB with an HPT of order 34 converts in constant memory', async () => {
  const kernel = scratchFile('big.htab');
  const first = await cli(['convert', '-', '-o', kernel], guestOf64GiB());
  expect(first.stderr).not.toContain('spapr-htab:');
  expect(first.code).toBe(0);
  expect(statSync(kernel).size).toBe(CHUNKS * 24 + VALID * 8);
  expect(first.peakMiB).toBeLessThan(LIMIT_MIB);

  const section = scratchFile('big.section');
  const order = ['--order', String(ORDER)];
  const second = await cli(['convert', kernel, '-o', section, ...order]);
  expect(second.code).toBe(0);
  expect(second.peakMiB).toBeLessThan(LIMIT_MIB);
  const back = scratchFile('back.htab');
  const third = await cli(['convert', section, '-o', back]);
  expect(third.peakMiB).toBeLessThan(LIMIT_MIB);
  expect(readFileSync(back).equals(readFileSync(kernel))).toBe(true);

  const archive = scratchFile('big.msgpack');
  const fourth = await cli(['convert', section, '-o', archive]);
  expect(fourth.code).toBe(0);
  expect(fourth.peakMiB).toBeLessThan(LIMIT_MIB);
  const fifth = await cli(['convert', archive, '-o', back, '-f']);
  expect(fifth.code).toBe(0);
  expect(fifth.peakMiB).toBeLessThan(LIMIT_MIB);
  expect(readFileSync(back).equals(readFileSync(kernel))).toBe(true);
}, 600_000);

test.each([28, ORDER])(
  'an image of order %i is sparse and takes constant memory',
  async (order) => {
    // Entries in a corner of the table only: gigabytes of file, a few MiB on disk.
    const pieces = [u32(order), u32(0)];
    for (let i = 0; i < 20_000; i++) pieces.push(chunk(i * 3, [hpte(i)]));
    pieces.push(chunk(2 ** (order - 4) - 1, [hpte(1)]), u64(0));
    const section = scratchFile('corner.section', Buffer.concat(pieces));
    const image = scratchFile('corner.img');
    const { code, peakMiB } = await cli(['convert', section, '-o', image]);
    expect(code).toBe(0);
    const { size, blocks } = statSync(image);
    expect(size).toBe(2 ** order);
    expect(blocks * 512).toBeLessThan(4 * 2 ** 20);
    expect(peakMiB).toBeLessThan(LIMIT_MIB);
    // Reading all holes of the larger one takes long and shows nothing more.
    if (order === ORDER) return;
    const kernel = scratchFile('corner.htab');
    const back = await cli(['convert', image, '-o', kernel]);
    expect(back.code).toBe(0);
    expect(back.peakMiB).toBeLessThan(LIMIT_MIB);
    expect(statSync(kernel).size).toBe(20_001 * 24);
  },
  600_000,
);
