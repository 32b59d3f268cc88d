import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  BufferSource,
  capture,
  type HptFormat,
  HtabFd,
  openHpt,
  replayHtabFd,
  SoftwareHtab,
} from '../../src/index.js';
import { fixture, load } from '../helpers/fixtures.js';
import { scratchFile } from '../helpers/sources.js';
import { blocks, Scripted } from './scripted.js';

const first = (): Buffer => load(fixture('kvm/h8-guest.htab.gz'));

async function replay(bytes: Uint8Array): Promise<HtabFd> {
  const hpt = await openHpt(new BufferSource(bytes), { from: 'kernel', byteOrder: 'little' });
  return replayHtabFd(hpt.items());
}

async function memory(): Promise<{ bytes: () => Buffer; write(b: Uint8Array): Promise<void> }> {
  const pieces: Buffer[] = [];
  return {
    bytes: () => Buffer.concat(pieces),
    write: async (bytes) => {
      pieces.push(Buffer.from(bytes));
    },
  };
}

describe('capture', () => {
  test('kernel blocks as they come', async () => {
    const out = await memory();
    const done = await capture(await replay(first()), out, { to: 'kernel' });
    expect(out.bytes().equals(first())).toBe(true);
    expect(done).toMatchObject({ order: 22, passes: 1, bytes: first().length, warnings: [] });
    expect(done.valid).toBe((first().length - 8 * done.blocks) / 16);
  });

  test.each(['section', 'archive', 'image', 'kernel'] as const)('%s', async (to: HptFormat) => {
    const path = scratchFile(`captured.${to}`, Buffer.alloc(0));
    const done = await capture(await replay(first()), path, { to, force: true });
    expect(done).toMatchObject({ order: 22, passes: 1, bytes: statSync(path).size });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await using captured = await openHpt(path, { from: to, byteOrder: 'little', order: 22 });
    await using source = await openHpt(new BufferSource(first()), {
      byteOrder: 'little',
      order: 22,
    });
    expect((await captured.table()).equals(await source.table())).toBe(true);
  });

  test('an order that is given saves the copy, and is checked', async () => {
    const path = scratchFile('given.section', Buffer.alloc(0));
    const options = { to: 'section', force: true } as const;
    expect(await capture(await replay(first()), path, { ...options, order: 22 })).toMatchObject({
      order: 22,
    });
    const wrong = capture(await replay(first()), path, { ...options, order: 23 });
    await expect(wrong).rejects.toMatchObject({ code: 'E_PASS' });
  });

  test('several passes: parts', async () => {
    const nothing = Buffer.alloc(0);
    const fd = (): HtabFd => {
      const reads = [blocks([0, 1, 16383]), nothing, blocks([3, 1, 0]), nothing, nothing];
      return new HtabFd(new Scripted(reads), false);
    };
    const archive = await memory();
    const done = await capture(fd(), archive, { to: 'archive', untilQuiet: true });
    expect(done).toMatchObject({ order: 18, passes: 2, blocks: 2, valid: 2 });
    await using captured = await openHpt(new BufferSource(archive.bytes()));
    const types: string[] = [];
    for await (const { type } of captured.items()) types.push(type);
    expect(types).toEqual(['order', 'part', 'blocks', 'end', 'part', 'blocks', 'end']);
    expect(captured.archiveHeader?.source.kind).toBe('htab-fd');

    const joined = await memory();
    const kernel = await capture(fd(), joined, { to: 'kernel', passes: 2 });
    expect(kernel.warnings.map(({ code }) => code)).toEqual(['W_PARTS']);
    expect(joined.bytes().equals(blocks([0, 1, 16383], [3, 1, 0]))).toBe(true);
    const marked = await memory();
    const { warnings } = await capture(fd(), marked, { to: 'kernel', passes: 2, markParts: true });
    expect(warnings).toEqual([]);
    expect(marked.bytes().length).toBe(joined.bytes().length + 16);
  });

  test('bolted entries only', async () => {
    const out = await memory();
    await capture(await replay(first()), out, { to: 'kernel', boltedOnly: true });
    expect(out.bytes().equals(load(fixture('kvm/h8-guest.bolted.gz')))).toBe(true);
  });

  test('headers in the byte order that is asked for', async () => {
    const out = await memory();
    const fd = new HtabFd(new Scripted([blocks([0, 0, 16384])]), false);
    await capture(fd, out, { to: 'kernel', outputByteOrder: 'big' });
    expect(out.bytes().toString('hex')).toBe('0000000000004000');
  });

  test('an fd that gives nothing', async () => {
    const fd = new HtabFd(new Scripted([]), false);
    const path = `${scratchFile('x', Buffer.alloc(0))}.htab`;
    await expect(capture(fd, path)).rejects.toMatchObject({ code: 'E_NO_HPT' });
    expect(() => readFileSync(path)).toThrow(/ENOENT/);
  });

  test.each([
    ['the middle of a pass', blocks([100, 1, 16283])],
    ['a delta', blocks([5, 1, 0], [90, 1, 0])],
    ['a table whose size is none', blocks([0, 1, 999])],
  ])('an fd that gives %s', async (_, bytes) => {
    const out = await memory();
    const fd = (): HtabFd => new HtabFd(new Scripted([bytes]), false);
    await expect(capture(fd(), out, { to: 'kernel' })).rejects.toMatchObject({ code: 'E_PASS' });
    const taken = await memory();
    const done = await capture(fd(), taken, { to: 'kernel', partial: true });
    expect(done.order).toBeUndefined();
    expect(taken.bytes().equals(bytes)).toBe(true);
    const section = capture(fd(), taken, { to: 'section', partial: true });
    await expect(section).rejects.toMatchObject({ code: 'E_ORDER_REQUIRED' });
  });

  test('an fd that was read before, until nothing changes', async () => {
    const htab = new SoftwareHtab({ order: 18 });
    const fd = htab.open();
    await capture(fd, await memory(), { to: 'kernel' });
    for (const to of ['kernel', 'section', 'archive'] as const) {
      const again = capture(fd, await memory(), { to, order: 18, untilQuiet: true });
      await expect(again).rejects.toMatchObject({ code: 'E_PASS' });
    }
    // A later pass that covers a smaller table is no first pass of it.
    await htab.descriptor({ write: true }).write(blocks([0, 16384, 0]));
    await expect(capture(fd, await memory(), { to: 'kernel' })).rejects.toMatchObject({
      code: 'E_PASS',
    });
    const section = await memory();
    const done = await capture(fd, section, { to: 'section', order: 18, partial: true });
    expect(done).toMatchObject({ passes: 1, valid: 16384 });
    const quiet = await memory();
    const nothing = { order: 18, partial: true, untilQuiet: true } as const;
    expect(await capture(fd, quiet, { to: 'section', ...nothing })).toMatchObject({ passes: 0 });
    await using empty = await openHpt(new BufferSource(quiet.bytes()), { from: 'section' });
    expect((await empty.table()).counts().valid).toBe(0);
  });

  test('an fd in the middle of its pass: no more than one read is taken', async () => {
    const scripted = new Scripted([blocks([100, 1, 0]), blocks([200, 1, 0]), blocks([300, 1, 0])]);
    const refused = capture(new HtabFd(scripted, false), await memory(), { to: 'kernel' });
    await expect(refused).rejects.toMatchObject({ code: 'E_PASS' });
    expect(scripted.asked.length).toBe(1);
  });

  test('numbers of passes and orders that are none', async () => {
    for (const passes of [0, -1, Number.NaN, 1.5]) {
      const refused = capture(await replay(first()), await memory(), { to: 'kernel', passes });
      await expect(refused).rejects.toMatchObject({ code: 'E_USAGE' });
    }
    for (const order of [0, 17, 47, 20.5, Number.NaN]) {
      const refused = capture(await replay(first()), await memory(), { to: 'kernel', order });
      await expect(refused).rejects.toMatchObject({ code: 'E_ORDER' });
    }
    const large = capture(await replay(first()), await memory(), { to: 'kernel', order: 37 });
    await expect(large).rejects.toMatchObject({ code: 'E_UNSUPPORTED' });
    const small = { to: 'section', order: 21, partial: true } as const;
    const refused = capture(await replay(first()), await memory(), small);
    await expect(refused).rejects.toMatchObject({ code: 'E_ORDER' });
    const bogus = capture(await replay(first()), await memory(), { to: 'bogus' as 'kernel' });
    await expect(bogus).rejects.toMatchObject({ code: 'E_USAGE', actual: 'bogus' });
  });

  test('a table of 2^32 slots: its order must be said', async () => {
    const fd = (): HtabFd => new SoftwareHtab({ order: 36 }).open();
    const untold = capture(fd(), await memory(), { to: 'kernel' });
    await expect(untold).rejects.toMatchObject({ code: 'E_ORDER_REQUIRED' });
    const told = await capture(fd(), await memory(), { to: 'kernel', order: 36 });
    expect(told.order).toBe(36);
  });

  test('an abort leaves no file', async () => {
    const path = `${scratchFile('y', Buffer.alloc(0))}.section`;
    const signal = AbortSignal.abort();
    await expect(capture(await replay(first()), path, { signal })).rejects.toMatchObject({
      code: 'E_ABORTED',
    });
    expect(() => readFileSync(path)).toThrow(/ENOENT/);
  });
});
