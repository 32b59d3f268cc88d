import { describe, expect, test } from 'vitest';
import {
  BlockBatch,
  HtabFd,
  type HtabItem,
  type HtabPass,
  HtabWriteError,
  type PassesOptions,
  SoftwareHtab,
} from '../../src/index.js';
import { blocks, Scripted } from './scripted.js';

const reader = (...reads: Buffer[]): HtabFd => new HtabFd(new Scripted(reads), false);

/** Headers of a pass: `[0 v1 i9]`. */
async function headers(pass: HtabPass): Promise<string> {
  const words: string[] = [];
  for await (const batch of pass) {
    for (const { index, nValid, nInvalid } of batch)
      words.push(`[${index} v${nValid} i${nInvalid}]`);
  }
  return words.join(' ');
}

async function all(fd: HtabFd, options: PassesOptions): Promise<string[]> {
  const texts: string[] = [];
  for await (const pass of fd.passes(options)) texts.push(await headers(pass));
  return texts;
}

describe('passes', () => {
  test('a pass ends with a read of nothing', async () => {
    const fd = reader(blocks([0, 1, 9]), blocks([10, 2, 4]), Buffer.alloc(0), blocks([3, 1, 0]));
    const first = fd.pass();
    expect(first.number).toBe(0);
    expect(await headers(first)).toBe('[0 v1 i9] [10 v2 i4]');
    expect(first).toMatchObject({ blocks: 2, valid: 3, invalid: 13, bytes: 64, changed: true });
    const second = fd.pass();
    expect(second.number).toBe(1);
    expect(await headers(second)).toBe('[3 v1 i0]');
    const third = fd.pass();
    expect(await headers(third)).toBe('');
    expect(third.changed).toBe(false);
  });

  test('a pass ends where the kernel begins again, with a guest that never rests', async () => {
    const fd = reader(blocks([0, 1, 9]), blocks([10, 1, 5]), blocks([3, 1, 0]), blocks([3, 1, 0]));
    expect(await all(fd, { max: 3 })).toEqual(['[0 v1 i9] [10 v1 i5]', '[3 v1 i0]', '[3 v1 i0]']);
    // What was read too early is not lost.
    const more = reader(blocks([5, 1, 0]), blocks([5, 1, 0]));
    expect(await headers(more.pass())).toBe('[5 v1 i0]');
    expect(await headers(more.pass())).toBe('[5 v1 i0]');
  });

  test('until nothing changes', async () => {
    const nothing = Buffer.alloc(0);
    const reads = [
      blocks([0, 1, 15]),
      nothing,
      blocks([3, 1, 0]),
      nothing,
      nothing,
      blocks([9, 1, 0]),
    ];
    const fd = reader(...reads);
    expect(await all(fd, { untilQuiet: true })).toEqual(['[0 v1 i15]', '[3 v1 i0]']);
    expect(await headers(fd.pass())).toBe('[9 v1 i0]');
  });

  test('a quiet pass is one too, unless it is to be the end', async () => {
    expect(await all(reader(blocks([0, 0, 16])), { max: 3 })).toEqual(['[0 v0 i16]', '', '']);
    expect(await all(reader(), { max: 1, untilQuiet: true })).toEqual(['']);
  });

  test('a pass that is left early goes on, and passes() reads it to its end', async () => {
    const fd = reader(blocks([0, 1, 1]), blocks([2, 1, 1]), Buffer.alloc(0), blocks([1, 1, 0]));
    for await (const _ of fd.pass()) break;
    expect(await headers(fd.pass())).toBe('[2 v1 i1]');
    const again = reader(blocks([0, 1, 1]), blocks([2, 1, 1]), Buffer.alloc(0), blocks([1, 1, 0]));
    const seen: string[] = [];
    for await (const pass of again.passes({ max: 2 })) {
      if (pass.number === 0) {
        for await (const _ of pass) break;
      } else seen.push(await headers(pass));
    }
    expect(seen).toEqual(['[1 v1 i0]']);
  });

  test('what changes while a pass is left early is in the next one', async () => {
    const htab = new SoftwareHtab({ order: 18 });
    const writer = htab.descriptor({ write: true });
    const fd = htab.open();
    for await (const _ of fd.pass()) break;
    await writer.write(blocks([7, 1, 0]));
    expect(await all(fd, { max: 2 })).toEqual(['', '[7 v1 i0]']);
    for await (const _ of fd.pass()) break;
    await writer.write(blocks([9, 1, 0]));
    const pass = fd.pass();
    expect([pass.number, await headers(pass)]).toEqual([3, '[9 v1 i0]']);
  });

  test('one reader at a time; a pass that is over stays over', async () => {
    const fd = reader(blocks([0, 1, 1]), blocks([2, 1, 1]));
    const pass = fd.pass();
    for await (const _ of pass) {
      await expect(headers(fd.pass())).rejects.toMatchObject({ code: 'E_USAGE' });
    }
    expect(await headers(pass)).toBe('');
  });

  test('two readers at once: one of them is told', async () => {
    const fd = reader(blocks([0, 1, 1]), blocks([2, 1, 1]), blocks([4, 1, 1]));
    const both = await Promise.allSettled([all(fd, { max: 1 }), all(fd, { max: 1 })]);
    const refused = both.filter(({ status }) => status === 'rejected');
    expect(refused).toMatchObject([{ reason: { code: 'E_USAGE' } }]);
    const read = both.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
    expect(read).toEqual(['[0 v1 i1] [2 v1 i1] [4 v1 i1]']);
  });

  test('a listener that throws loses no read', async () => {
    const fd = reader(blocks([0, 1, 1]), blocks([2, 1, 1]));
    const onProgress = (): never => {
      throw new Error('from the listener');
    };
    await expect(headers(fd.pass({ onProgress }))).rejects.toThrow('from the listener');
    expect(await headers(fd.pass())).toBe('[0 v1 i1] [2 v1 i1]');
  });

  test('numbers of passes that are none', async () => {
    for (const max of [0, -1, 1.5, Number.NaN]) {
      await expect(all(reader(), { max })).rejects.toMatchObject({ code: 'E_USAGE' });
    }
  });

  test('a part of a block is refused', async () => {
    const fd = reader(blocks([0, 2, 0]).subarray(0, 30));
    await expect(headers(fd.pass())).rejects.toMatchObject({ code: 'E_TRUNCATED', offset: 0 });
  });

  test('buffers: large by default, and never too small for a block', async () => {
    const scripted = new Scripted([]);
    const fd = new HtabFd(scripted, false);
    await headers(fd.pass());
    await headers(fd.pass({ bufferBytes: 25 }));
    expect(scripted.asked).toEqual([2 << 20, 25]);
    for (const bufferBytes of [24, 0, -1, 30.5, Number.NaN]) {
      expect(() => fd.pass({ bufferBytes })).toThrow(/room for a block/);
    }
  });

  test('an abort loses nothing: what was read was given', async () => {
    const controller = new AbortController();
    const fd = reader(blocks([0, 1, 1]), blocks([2, 1, 1]), blocks([4, 1, 1]));
    const seen: number[] = [];
    const reading = (async () => {
      for await (const batch of fd.pass({ signal: controller.signal })) {
        for (const { index } of batch) seen.push(index);
        if (seen.length === 2) controller.abort();
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: 'E_ABORTED' });
    expect(seen).toEqual([0, 2]);
    expect(await headers(fd.pass())).toBe('[4 v1 i1]');
  });

  test('progress counts bytes', async () => {
    const positions: number[] = [];
    const fd = reader(blocks([0, 1, 1]), blocks([2, 1, 1]));
    await headers(fd.pass({ onProgress: ({ position }) => positions.push(position) }));
    expect(positions).toEqual([24, 48]);
  });

  test('items: a part for each pass', async () => {
    const fd = reader(blocks([0, 1, 15]), Buffer.alloc(0), blocks([3, 1, 0]));
    const types: string[] = [];
    for await (const item of fd.items({ order: 18, max: 2 })) types.push(item.type);
    expect(types).toEqual(['order', 'part', 'blocks', 'end', 'part', 'blocks', 'end']);
  });
});

describe('writes', () => {
  const batch = (bytes: Buffer, count: number): BlockBatch =>
    new BlockBatch(bytes, 'little', count, 0);

  test('blocks one by one, whole', async () => {
    const scripted = new Scripted([]);
    const fd = new HtabFd(scripted, true);
    const applied = await fd.apply(batch(blocks([0, 2, 1], [9, 0, 4], [20, 1, 0]), 3));
    expect(applied).toEqual({ blocks: 3, valid: 3, invalid: 5, bytes: 72 });
    expect(scripted.written.map(({ length }) => length)).toEqual([40, 8, 24]);
  });

  test('headers are written as the fd wants them', async () => {
    const scripted = new Scripted([]);
    const big = new BlockBatch(batch(blocks([7, 1, 2]), 1).encode('big'), 'big', 1, 0);
    await new HtabFd(scripted, true).apply(big);
    expect(scripted.written[0]).toEqual(Uint8Array.from(blocks([7, 1, 2])));
  });

  test('a block that is refused: which, why, and what was written', async () => {
    const scripted = new Scripted([], { at: 2, errno: 'EBUSY' });
    const fd = new HtabFd(scripted, true);
    const error = await fd.apply(batch(blocks([0, 2, 1], [9, 0, 4], [20, 1, 3]), 3)).then(
      () => undefined,
      (failure: unknown) => failure,
    );
    expect(error).toBeInstanceOf(HtabWriteError);
    expect(error).toMatchObject({
      code: 'E_HTAB_FD',
      errno: 'EBUSY',
      offset: 48,
      block: { index: 20, nValid: 1, nInvalid: 3 },
      applied: { blocks: 2, valid: 2, invalid: 5, bytes: 48 },
    });
    expect(String(error)).toMatch(/block 2 \(slot 20, 1 valid, 3 invalid\).*vCPU.*running/);
    // It keeps what it knows when it says what it is about.
    expect((error as HtabWriteError).about('a.htab')).toMatchObject({
      errno: 'EBUSY',
      applied: { blocks: 2 },
      block: { index: 20 },
      message: expect.stringMatching(/a\.htab: .*block 2/),
    });
  });

  test('the likely cause of EINVAL is found in the block', async () => {
    const refused = (bytes: Buffer): Promise<unknown> =>
      new HtabFd(new Scripted([], { at: 0, errno: 'EINVAL' }), true).apply(batch(bytes, 1));
    const notValid = blocks([5, 3, 0]);
    notValid.writeUInt8(0x40, 8 + 16 + 7);
    await expect(refused(notValid)).rejects.toThrow(/slot 6 is not valid.*the 1 before it/);
    const noSize = blocks([5, 1, 0]);
    noSize.writeUInt8(0x45, 8 + 7);
    noSize.writeUInt16BE(0xf192, 8 + 14);
    noSize.writeUInt8(0x0f, 8 + 13);
    await expect(refused(noSize)).rejects.toThrow(/slot 5 has a page size/);
    await expect(refused(blocks([5, 1, 0]))).rejects.toThrow(/reaches beyond the VM's table/);
  });

  test('an abort ends it between pieces, and says what was written', async () => {
    const controller = new AbortController();
    const many = Array.from({ length: 40 }, (_, i) => [i * 4096, 4096, 0] as const);
    const options = { signal: controller.signal, onProgress: () => controller.abort() };
    const scripted = new Scripted([]);
    const aborted = new HtabFd(scripted, true).apply(batch(blocks(...many), 40), options);
    await expect(aborted).rejects.toMatchObject({ code: 'E_ABORTED' });
    await expect(aborted).rejects.toThrow(
      `after ${scripted.written.length} blocks with ${scripted.written.length * 4096} entries`,
    );
    expect(scripted.written.length).toBeLessThan(40);
    const signal = AbortSignal.abort();
    const nothing = new HtabFd(scripted, true).apply(batch(blocks([0, 1, 0]), 1), { signal });
    await expect(nothing).rejects.toThrow(/after 0 blocks/);
  });

  test('what ends within a block is not begun', async () => {
    const scripted = new Scripted([]);
    const cut = batch(blocks([0, 1, 0], [9, 1, 0]).subarray(0, 40), 2);
    await expect(new HtabFd(scripted, true).apply(cut)).rejects.toMatchObject({
      code: 'E_TRUNCATED',
      offset: 24,
    });
    expect(scripted.written).toEqual([]);
  });

  test('a guest without HPT has nothing to be written', async () => {
    const items = (async function* (): AsyncGenerator<HtabItem> {
      yield { type: 'no-hpt', offset: 0 };
    })();
    const fd = new HtabFd(new Scripted([]), true);
    await expect(fd.applyAll(items)).rejects.toMatchObject({ code: 'E_NO_HPT' });
  });
});

test('an fd that is read is not written, and the other way round', async () => {
  const nothing = new BlockBatch(new Uint8Array(), 'little', 0, 0);
  await expect(new HtabFd(new Scripted([]), false).apply(nothing)).rejects.toMatchObject({
    code: 'E_USAGE',
  });
  expect(() => new HtabFd(new Scripted([]), true).pass()).toThrow(/can only be written/);
});

test('closing reaches the descriptor', async () => {
  const scripted = new Scripted([]);
  {
    await using fd = new HtabFd(scripted, false);
    expect(fd.writable).toBe(false);
  }
  expect(scripted.closed).toBe(1);
});
