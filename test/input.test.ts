import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import {
  BufferSource,
  ByteReader,
  capture,
  convert,
  encodeBlock,
  IterableSource,
  inspect,
  openHpt,
  readArchive,
  SoftwareHtab,
  writeImage,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { cli } from './helpers/cli.js';
import { fixture, load } from './helpers/fixtures.js';
import { plainEncode, plainKernel } from './helpers/reference.js';
import { scratchFile } from './helpers/sources.js';
import { hpte, smallGuest } from './helpers/stream.js';

const converted = async (input: Uint8Array, options: Parameters<typeof convert>[2]) => {
  const pieces: Buffer[] = [];
  const output = { write: async (bytes: Uint8Array) => void pieces.push(Buffer.from(bytes)) };
  const result = await convert(new BufferSource(input), output, options);
  return { ...result, output: Buffer.concat(pieces) };
};

describe('what a file is not taken for', () => {
  test('a file of random bytes is no image, whatever its size', async () => {
    const noise = new BufferSource(randomBytes(2 ** 20));
    await expect(openHpt(noise)).rejects.toMatchObject({ code: 'E_MAGIC' });
  });

  test('big-endian blocks that begin like an order are no section', async () => {
    // {24, 0 valid, 24 invalid}: an order word twice, to a careless eye.
    const bytes = Buffer.from('0000001800000018', 'hex');
    await expect(openHpt(new BufferSource(bytes))).rejects.toMatchObject({ code: 'E_AMBIGUOUS' });
    await using hpt = await openHpt(new BufferSource(bytes), { byteOrder: 'big' });
    expect(hpt.format).toBe('kernel');
  });

  test('info ends with the code of what could not be opened', async () => {
    const vmdk = Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(600)]);
    const { code, stdout } = await cli(['info', scratchFile('x.gz', gzipSync(vmdk))]);
    expect(code).toBe(4);
    expect(stdout.toString()).toContain('compressed with gzip');
    expect((await cli(['info', scratchFile('g', smallGuest()), '--snapshot', 'x'])).code).toBe(2);
  });
});

describe('HTAB blocks that begin with headers which read the same in both byte orders', () => {
  const entries = (count: number): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, i) => hpte(i)));
  const longest = entries(0xffff);
  const block = (index: number, nInvalid: number) => ({ index, entries: longest, nInvalid });
  const mark = { index: 0, entries: Buffer.alloc(0), nInvalid: 0 };
  const cases = {
    // 300,000 entries from slot 0 on.
    'full blocks': [0, 1, 2, 3].map((i) => block(0xffff * i, 0)),
    'full blocks behind a mark': [mark, ...[0, 1].map((i) => block(0xffff * i, 0))],
    // 0x00010100, 0x00020200.
    'three such headers': [
      block(0, 0x101),
      block(0x10100, 0x101),
      block(0x20200, 0),
      block(0x301ff, 0),
    ],
    'such entries and then empty slots': [
      block(0, 0xffff),
      { ...mark, index: 0x1fffe, nInvalid: 2 },
    ],
  };
  const open = (bytes: Buffer, start: number, pipe: boolean) => {
    const file = Buffer.concat([Buffer.alloc(start), bytes]);
    function* pieces(): Generator<Uint8Array> {
      for (let at = 0; at < file.length; at += 65536) yield file.subarray(at, at + 65536);
    }
    const source = pipe ? new IterableSource(pieces()) : new BufferSource(file);
    return openHpt(source, { offset: start, limits: { spoolBytes: 0 } });
  };

  test.each(Object.entries(cases))('%s', async (_name, blocks) => {
    for (const byteOrder of ['little', 'big'] as const) {
      const bytes = plainEncode(blocks, byteOrder === 'little');
      for (const pipe of [true, false]) {
        await using hpt = await open(bytes, 0, pipe);
        expect(hpt).toMatchObject({ format: 'kernel', byteOrder });
        const copies: Buffer[] = [];
        for await (const piece of hpt.encode('kernel', { byteOrder }))
          copies.push(Buffer.from(piece));
        // Marks are no blocks.
        expect(Buffer.concat(copies).equals(bytes.subarray(blocks[0] === mark ? 8 : 0))).toBe(true);
      }
    }
  });

  test('are told by a capture of our own', async () => {
    const vm = new SoftwareHtab({ order: 24 });
    await using fd = vm.open({ write: true });
    const each = 60_000;
    for (let index = 0; index < 300_000; index += each) {
      const bytes = encodeBlock({ index, nInvalid: 0, entries: entries(each) }, 'little');
      await fd.descriptor.writeBlocks(bytes);
    }
    const path = scratchFile('captured.htab');
    await capture(vm.open(), path);
    await using hpt = await openHpt(path);
    expect(hpt).toMatchObject({ format: 'kernel', byteOrder: 'little' });
    expect((await hpt.table()).order).toBe(24);
  });

  test.each([1, 3.5, 4])(
    'the head is still there in a pipe, %d MiB from its beginning',
    async (mib) => {
      const bytes = plainEncode(cases['full blocks'].slice(0, 2), true);
      // Where the pipe keeps less than a block, its byte order cannot be told.
      const opened = open(bytes, mib * 2 ** 20 - 200, true);
      if (mib > 1) return expect(opened).rejects.toMatchObject({ code: 'E_AMBIGUOUS' });
      await using hpt = await opened;
      let valid = 0;
      for await (const item of hpt.items()) {
        if (item.type === 'blocks') for (const { nValid } of item.batch) valid += nValid;
      }
      expect(valid).toBe(2 * 0xffff);
    },
  );
});

test.each([2, 3.3, 3.9])('what stands %d MiB from the beginning of a pipe is read', async (mib) => {
  const start = mib * 2 ** 20;
  const bytes = Buffer.concat([Buffer.alloc(start), load(fixture('kvm/p8-many-r2048.htab.gz'))]);
  const pieces = [
    bytes.subarray(0, 3 << 20),
    bytes.subarray(3 << 20, 9 << 19),
    bytes.subarray(9 << 19),
  ];
  await using hpt = await openHpt(new IterableSource(pieces), {
    offset: start,
    order: 24,
    limits: { spoolBytes: 0 },
  });
  const copies: Buffer[] = [];
  for await (const piece of hpt.encode('kernel')) copies.push(Buffer.from(piece));
  expect(Buffer.concat(copies).equals(bytes.subarray(start))).toBe(true);
});

describe('the order of HTAB blocks', () => {
  const first = load(fixture('kvm/p8-many-r2048.htab.gz'));
  const delta = load(fixture('kvm/p8-many-delta.htab.gz'));

  test.each([
    ['a first pass', first],
    ['a first pass and a later one in a file', Buffer.concat([first, delta])],
    ['marks between its blocks', marked(first)],
  ])('is told by %s, from a file and from a pipe', async (_name, bytes) => {
    const path = scratchFile('blocks.htab', bytes);
    for (const source of [path, new IterableSource([bytes]), new BufferSource(gzipSync(bytes))]) {
      await using hpt = await openHpt(source);
      expect((await hpt.table()).order).toBe(24);
    }
  });

  /** A mark after every thousandth block. */
  function marked(bytes: Buffer): Buffer {
    const blocks = plainKernel(bytes, true);
    const mark = { index: 0, entries: Buffer.alloc(0), nInvalid: 0 };
    return plainEncode(
      blocks.flatMap((b, i) => (i % 1000 === 999 ? [b, mark] : [b])),
      true,
    );
  }

  test('a guest whose table was empty comes back with the order given', async () => {
    const { output } = await converted(Buffer.alloc(0), { order: 21, to: 'section' });
    expect(output.toString('hex')).toBe('00000015000000000000000000000000');
  });

  test('is taken from the caller for an archive that lacks it', async () => {
    const block = encodeBlock({ index: 5, nInvalid: 0, entries: hpte(1) }, 'little');
    const { output: archive } = await converted(block, { to: 'archive', byteOrder: 'little' });
    const { output } = await converted(archive, { to: 'section', order: 18 });
    expect(output.readUInt32BE(0)).toBe(18);
    const path = scratchFile('x.img');
    await convert(new BufferSource(archive), path, { order: 18 });
    expect((await inspect(path)).hpt).toMatchObject({ valid: 1 });
  });
});

test('an image refuses a block beyond its table', async () => {
  const block = encodeBlock({ index: 20000, nInvalid: 0, entries: hpte(1) }, 'little');
  await using hpt = await openHpt(new BufferSource(block), { from: 'kernel' });
  const file = {
    read: async () => 0,
    write: async () => undefined,
    truncate: async () => undefined,
  };
  const failure = { code: 'E_BLOCK_RANGE' };
  await expect(writeImage(hpt.items(), file, 18)).rejects.toMatchObject(failure);
});

test('an archive says which machine its table comes from, and passes it on', async () => {
  const first = await converted(smallGuest(), { to: 'archive' });
  const second = await converted(first.output, { to: 'archive' });
  for (const { output } of [first, second]) {
    const { header } = await readArchive(new ByteReader(new BufferSource(output)));
    expect(header.source).toEqual({ kind: 'snapshot', machine: 'pseries-7.2' });
  }
});

test('parts that the kernel framing cannot keep are reported', async () => {
  const { warnings } = await converted(smallGuest(), { to: 'kernel' });
  expect(warnings.map((w) => w.code)).toEqual(['W_PARTS']);
  const { warnings: none } = await converted(smallGuest(), { to: 'kernel', markParts: true });
  expect(none).toEqual([]);
});

test('a signal ends the wait for a source that stays silent', async () => {
  async function* silent(): AsyncGenerator<Uint8Array> {
    yield smallGuest().subarray(0, 100);
    await new Promise(() => undefined);
  }
  const signal = AbortSignal.timeout(50);
  const opening = openHpt(new IterableSource(silent()), { signal });
  await expect(opening).rejects.toMatchObject({ code: 'E_ABORTED' });
});

test('memory is not written to a stream', async () => {
  const { code } = await cli(['ram', scratchFile('guest', smallGuest()), '-o', '-']);
  expect(code).toBe(2);
});

test('names with line breaks stay on their line', async () => {
  const evil = smallGuest();
  evil.set(Buffer.from('ti\nXQ'), evil.indexOf('timer', 0, 'latin1'));
  const { stdout } = await cli(['info', '-'], [evil]);
  expect(stdout.toString()).not.toMatch(/^XQ/m);
});
