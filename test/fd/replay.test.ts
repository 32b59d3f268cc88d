import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BlockBatch,
  BufferSource,
  type ByteOrder,
  capture,
  FormatError,
  HashPageTable,
  type HtabFd,
  type HtabItem,
  openHpt,
  orderOfSlots,
  replayHtabFd,
} from '../../src/index.js';
import { fixture, fixturesOf, load } from '../helpers/fixtures.js';
import { plainEncode, plainKernel } from '../helpers/reference.js';
import { collect, scratchFile } from '../helpers/sources.js';
import { blocks } from './scripted.js';

const FIRST_PASSES = fixturesOf('kernel').filter(({ file }) => !/delta|written/.test(file));

async function replay(
  bytes: Uint8Array,
  order?: number,
  byteOrder: ByteOrder = 'little',
): Promise<HtabFd> {
  const from = { from: 'kernel', byteOrder: 'little', order } as const;
  const hpt = await openHpt(new BufferSource(bytes), from);
  return replayHtabFd(hpt.items(), byteOrder);
}

const batch = (bytes: Uint8Array): HtabItem => ({
  type: 'blocks',
  batch: new BlockBatch(bytes, 'little', 1, 0),
});
const part: HtabItem = { type: 'part', offset: 0 };
const end: HtabItem = { type: 'end', offset: 0 };

async function* given(...items: HtabItem[]): AsyncGenerator<HtabItem> {
  yield* items;
}

async function bytesOf(fd: HtabFd, bufferBytes: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const batch of fd.pass({ bufferBytes })) pieces.push(Buffer.from(batch.bytes));
  return Buffer.concat(pieces);
}

describe.each(FIRST_PASSES)('$file', (fixture) => {
  test('comes back block for block', async () => {
    const bytes = load(fixture);
    const fd = await replay(bytes);
    expect((await bytesOf(fd, 2 << 20)).equals(bytes)).toBe(true);
    expect(fd.pass().number).toBe(1);
    expect((await bytesOf(fd, 2 << 20)).length).toBe(0);
  });

  test('comes back with headers of the other byte order', async () => {
    const bytes = load(fixture);
    const big = await bytesOf(await replay(bytes, undefined, 'big'), 1 << 16);
    const little = await bytesOf(await replay(bytes), 1 << 16);
    expect(plainEncode(plainKernel(little, true), false).equals(big)).toBe(true);
  });

  test('smaller reads cut blocks, and give the same table', async () => {
    const order = fixture.order ?? orderOfSlots(2 ** 20);
    const bytes = load(fixture);
    const cut = await bytesOf(await replay(bytes), 2048);
    const tables = [bytes, cut].map(async (dump) => {
      const from = await openHpt(new BufferSource(dump), { from: 'kernel', byteOrder: 'little' });
      return HashPageTable.from(from.items(), order);
    });
    const [table, other] = await Promise.all(tables);
    expect(table !== undefined && other?.equals(table)).toBe(true);
  });
});

test('parts are passes; a recording that is over changes no more', async () => {
  const mark = Buffer.alloc(8);
  const recorded = [blocks([0, 1, 3]), mark, mark, blocks([2, 1, 0]), mark];
  const fd = await replay(Buffer.concat(recorded));
  const seen: number[] = [];
  for await (const pass of fd.passes({ max: 5 })) {
    for await (const _ of pass);
    seen.push(pass.blocks);
  }
  expect(seen).toEqual([1, 0, 1, 0, 0]);
});

describe('a part is one pass, whatever its slots', () => {
  const mark = Buffer.alloc(8);
  const goesBack = Buffer.concat([blocks([100, 1, 0], [200, 3, 1], [5, 2, 9]), mark]);
  const next = Buffer.concat([blocks([50, 1, 0]), mark]);

  test.each([25, 30, 41, 60, 2 << 20])('reads of %d bytes', async (bufferBytes) => {
    const fd = await replay(Buffer.concat([goesBack, next, goesBack]));
    const seen: [number, number][] = [];
    for await (const pass of fd.passes({ untilQuiet: true, bufferBytes })) {
      for await (const _ of pass);
      seen.push([pass.valid, pass.invalid]);
    }
    expect(seen).toEqual([
      [6, 10],
      [1, 0],
      [6, 10],
    ]);
  });
});

test('a block that reaches beyond slot 2^32 is cut as a u32 counts', async () => {
  const fd = replayHtabFd(given(part, batch(blocks([0xfffffffe, 2, 3])), batch(blocks([0, 1, 0]))));
  const { descriptor } = fd;
  const indexes: number[] = [];
  for (let read = await descriptor.read(25); read.length > 0; read = await descriptor.read(25)) {
    indexes.push(new DataView(read.buffer, read.byteOffset).getUint32(0, true));
  }
  expect(indexes).toEqual([0xfffffffe, 0xffffffff, 0]);
});

describe('the event loop has its turn', () => {
  // A block is a header: as many as there can be.
  const tiny = Buffer.alloc(2 ** 20);
  for (let i = 0; i < tiny.length; i += 8) tiny.writeUInt32LE(i, i);
  for (let i = 0; i < tiny.length; i += 8) tiny.writeUInt16LE(1, i + 6);

  /** All of it is at hand, and takes its time, of whatever machine. */
  async function* busy(): AsyncGenerator<HtabItem> {
    for (let at = 0; at < tiny.length; at += 2 ** 17) {
      for (const until = performance.now() + 5; performance.now() < until; );
      yield batch(tiny.subarray(at, at + 2 ** 17));
    }
  }

  const abortSoon = (): AbortSignal => {
    const controller = new AbortController();
    setImmediate(() => controller.abort());
    return controller.signal;
  };

  test.each([100, 4096, 2 ** 17])('while blocks are read %d bytes at a time', async (size) => {
    const fd = replayHtabFd(busy());
    const got: Buffer[] = [];
    const reading = (async () => {
      for await (const { bytes } of fd.pass({ bufferBytes: size, signal: abortSoon() })) {
        got.push(Buffer.from(bytes));
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: 'E_ABORTED' });
    // Nothing is lost: what was not read comes now.
    got.push(await bytesOf(fd, 2 << 20));
    expect(Buffer.concat(got).equals(tiny)).toBe(true);
  });

  test('while one long read goes on', async () => {
    const { descriptor } = replayHtabFd(busy());
    let turns = 0;
    const turn = (): void => {
      turns++;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    const read = await descriptor.read(Number.MAX_SAFE_INTEGER);
    clearImmediate(next);
    expect(turns).toBeGreaterThan(1);
    expect(tiny.equals(read)).toBe(true);
  });

  test('while nothing changes any more', async () => {
    const fd = replayHtabFd(given());
    const reading = (async () => {
      for await (const _ of fd.passes({ signal: abortSoon() }));
    })();
    await expect(reading).rejects.toMatchObject({ code: 'E_ABORTED' });
  });
});

describe('a source that fails', () => {
  async function* failing(error: unknown): AsyncGenerator<HtabItem> {
    yield part;
    yield batch(blocks([0, 1, 0], [1, 1, 0]));
    throw error;
  }

  const truncated = new FormatError('E_TRUNCATED', 'it ends early', { offset: 7 });
  test.each([
    ['an error of the package', truncated, { code: 'E_TRUNCATED', offset: 7 }],
    ['another error', new Error('gone'), { code: 'E_IO', message: expect.stringMatching('gone') }],
    ['no error at all', undefined, { code: 'E_IO' }],
  ])('%s comes after what came before it, and stays', async (_name, error, expected) => {
    const fd = replayHtabFd(failing(error));
    const seen: number[] = [];
    const pass = async (): Promise<void> => {
      for await (const read of fd.pass({ bufferBytes: 40 })) seen.push(read.count);
    };
    for (let i = 0; i < 3; i++) await expect(pass()).rejects.toMatchObject(expected);
    expect(seen).toEqual([1, 1]);
    for (const length of [0, 24, 25]) {
      await expect(fd.descriptor.read(length)).rejects.toMatchObject(expected);
    }
    await fd.close();
    await expect(fd.descriptor.read(25)).rejects.toMatchObject({ code: 'E_IO', actual: 'EBADF' });
  });

  test.each([1, 7, 8, 23])('a block of which there are %d bytes is none', async (length) => {
    const cut = Buffer.concat([
      blocks([0, 1, 0], [1, 1, 0]),
      blocks([9, 1, 0]).subarray(0, length),
    ]);
    const { descriptor } = replayHtabFd(given(batch(blocks([7, 1, 0])), batch(cut)));
    expect((await descriptor.read(1000)).length).toBe(72);
    const expected = { code: 'E_TRUNCATED', offset: 48 };
    await expect(descriptor.read(1000)).rejects.toMatchObject(expected);
    await expect(descriptor.read(25)).rejects.toMatchObject(expected);
  });

  test('a read that began gives what it has, and the next one the error', async () => {
    const { descriptor } = replayHtabFd(failing(truncated));
    expect((await descriptor.read(1000)).length).toBe(48);
    await expect(descriptor.read(1000)).rejects.toBe(truncated);
    await expect(descriptor.read(1000)).rejects.toBe(truncated);
  });
});

describe('closing', () => {
  const closed = { code: 'E_IO', actual: 'EBADF' };
  async function* silent(): AsyncGenerator<HtabItem> {
    yield batch(blocks([0, 1, 0]));
    await new Promise(() => undefined);
  }

  test('does not wait for an item that never comes', async () => {
    const fd = replayHtabFd(silent());
    const reads = [25, 25, 25].map((length) => fd.descriptor.read(length));
    expect((await reads[0])?.length).toBe(24);
    await new Promise((resolve) => setImmediate(resolve));
    await fd.close();
    for (const read of reads.slice(1)) await expect(read).rejects.toMatchObject(closed);
    await expect(fd.descriptor.read(25)).rejects.toMatchObject(closed);
    await fd.close();
  });

  test('gives a read that waits for more what it has', async () => {
    const fd = replayHtabFd(silent());
    const read = fd.descriptor.read(1000);
    await new Promise((resolve) => setImmediate(resolve));
    await fd.close();
    expect((await read).length).toBe(24);
    await expect(fd.descriptor.read(1000)).rejects.toMatchObject(closed);
  });

  test.each([
    ['fails', () => Promise.reject(new Error('no'))],
    [
      'throws',
      () => {
        throw new Error('no');
      },
    ],
    ['never ends', () => new Promise<never>(() => undefined)],
  ])('ends though the return of the source %s', async (_name, giveUp) => {
    const next = async () => ({ done: true as const, value: undefined });
    const fd = replayHtabFd({ [Symbol.asyncIterator]: () => ({ next, return: giveUp }) });
    await fd.close();
    await fd.close();
    await expect(fd.descriptor.read(25)).rejects.toMatchObject(closed);
  });
});

test.each([Number.NaN, -1, 24.5, Number.POSITIVE_INFINITY])('%d is no length', async (length) => {
  const { descriptor } = await replay(blocks([0, 2, 1]));
  await expect(descriptor.read(length)).rejects.toMatchObject({ code: 'E_USAGE' });
  expect((await descriptor.read(100)).length).toBe(40);
});

describe('a migration of a TCG guest', () => {
  const bytes = load(fixture('qemu/linux-p8-live.mig.gz'));
  const open = () => openHpt(new BufferSource(bytes));

  test('is captured as a part of a table, part by part', async () => {
    await using hpt = await open();
    const all: HtabItem['type'][] = [];
    for await (const item of hpt.items()) all.push(item.type);
    const passes = all.filter((type) => type === 'end').length;
    expect(passes).toBeGreaterThan(10);

    const to = { to: 'section', force: true } as const;
    const path = scratchFile('tcg.section');
    // It covers neither all of the table, nor says how large that is.
    const whole = capture(replayHtabFd(hpt.items()), path, { ...to, order: 21, passes });
    await expect(whole).rejects.toMatchObject({ code: 'E_PASS' });
    const unknown = capture(replayHtabFd(hpt.items()), path, { ...to, partial: true, passes });
    await expect(unknown).rejects.toMatchObject({ code: 'E_ORDER_REQUIRED' });

    const options = { ...to, order: 21, partial: true, passes };
    const done = await capture(replayHtabFd(hpt.items()), path, options);
    expect(done).toMatchObject({ order: 21, passes });
    await using captured = await openHpt(path);
    expect((await captured.table()).equals(await hpt.table())).toBe(true);
    const [copy, original] = [captured, hpt].map((input) => collect(input.encode('section')));
    expect((await copy)?.equals((await original) ?? Buffer.alloc(0))).toBe(true);
  });

  test('another table after blocks is refused, not mixed with the first', async () => {
    const order: HtabItem = { type: 'order', order: 18, offset: 40 };
    const table = [part, batch(blocks([0, 1, 0])), end];
    for (const other of [order, { type: 'no-hpt', offset: 40 } as const]) {
      const { descriptor } = replayHtabFd(given(order, order, ...table, other, ...table));
      expect((await descriptor.read(100)).length).toBe(24);
      expect((await descriptor.read(100)).length).toBe(0);
      const expected = { code: 'E_UNSUPPORTED', offset: 40 };
      await expect(descriptor.read(100)).rejects.toMatchObject(expected);
      await expect(descriptor.read(100)).rejects.toMatchObject(expected);
    }
  });

  test('a guest without HPT gives nothing', async () => {
    await using hpt = await openHpt(new BufferSource(load(fixture('qemu/linux-p9-radix.mig.gz'))));
    const radix = capture(replayHtabFd(hpt.items()), scratchFile('radix.htab'), { force: true });
    await expect(radix).rejects.toMatchObject({ code: 'E_NO_HPT' });
  });
});

test('a read asks for room beyond the block, as of the kernel', async () => {
  const { descriptor } = await replay(blocks([0, 2, 1], [9, 1, 0]));
  expect((await descriptor.read(24)).length).toBe(0);
  const reads: number[] = [];
  for (const length of [25, 40, 24, 25]) reads.push((await descriptor.read(length)).length);
  expect(reads).toEqual([24, 24, 0, 24]);
});

test('every cut keeps entries and empty slots', async () => {
  const block = fc.tuple(fc.nat(200), fc.nat(40), fc.nat(40)).filter(([i, v, n]) => i + v + n > 0);
  await fc.assert(
    fc.asyncProperty(
      fc.array(block, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 25, max: 900 }),
      async (list, bufferBytes) => {
        const fd = await replay(blocks(...list), 18);
        const slots: string[] = [];
        for (let pass = fd.pass({ bufferBytes }); ; pass = fd.pass({ bufferBytes })) {
          for await (const batch of pass) {
            expect(batch.bytes.length).toBeLessThan(bufferBytes);
            for (const { index, nValid, nInvalid, entries } of batch) {
              for (let i = 0; i < nValid; i++) {
                slots.push(`${index + i}=${Buffer.from(entries).readUInt32BE(16 * i + 8)}`);
              }
              for (let i = 0; i < nInvalid; i++) slots.push(`${index + nValid + i}`);
            }
          }
          if (!pass.changed) break;
        }
        const expected = list.flatMap(([index, nValid, nInvalid]) => [
          ...Array.from({ length: nValid }, (_, i) => `${index + i}=${index + i}`),
          ...Array.from({ length: nInvalid }, (_, i) => `${index + nValid + i}`),
        ]);
        expect(slots).toEqual(expected);
      },
    ),
  );
});

test('a recording is not written, and gives its source back', async () => {
  let returned = 0;
  const items = {
    [Symbol.asyncIterator]: () => ({
      next: async () => ({ done: true as const, value: undefined }),
      return: async () => {
        returned++;
        return { done: true as const, value: undefined };
      },
    }),
  };
  const fd = replayHtabFd(items);
  await expect(fd.descriptor.write(new Uint8Array(8))).rejects.toMatchObject({ actual: 'EBADF' });
  expect(await fd.descriptor.writeBlocks(new Uint8Array(8))).toMatchObject({ errno: 'EBADF' });
  await fd.close();
  await fd.close();
  expect(returned).toBe(1);
  await expect(fd.descriptor.read(100)).rejects.toMatchObject({ code: 'E_IO', actual: 'EBADF' });
});
