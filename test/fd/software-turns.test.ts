import { describe, expect, test } from 'vitest';
import { AbortedError } from '../../src/errors.js';
import type { SoftwareDescriptor } from '../../src/fd/software/descriptor.js';
import { SoftwareHtab } from '../../src/fd/software/vm.js';
import { block, both, put, R, read, run, V } from './software-support.js';

/** Makes calls one after another until a timer fires that was set before; false if it never did. */
async function untilTimer(most: number, call: (i: number) => Promise<unknown>): Promise<boolean> {
  let fired = false;
  const timer = setTimeout(() => {
    fired = true;
  }, 1);
  for (let i = 0; i < most && !fired; i++) await call(i);
  clearTimeout(timer);
  return fired;
}

/** A table with entries in all of its 65536 slots. */
async function full(): Promise<{ vm: SoftwareHtab; w: SoftwareDescriptor; r: SoftwareDescriptor }> {
  const vm = new SoftwareHtab({ order: 20 });
  const { w, r } = both(vm);
  for (let i = 0; i < 65536; i += 4096) await w.write(block(i, run(4096, V(0n), R(1n))));
  return { vm, w, r };
}

describe('a timer fires while short calls are made, each after the one before', () => {
  test('read', async () => {
    const { vm } = await full();
    let r = vm.descriptor();
    const call = async (): Promise<void> => {
      if ((await r.read(2048)).length > 0) return;
      await r.close();
      r = vm.descriptor();
    };
    expect(await untilTimer(50000, call)).toBe(true);
  });

  test('read of nothing', async () => {
    const { r } = both(new SoftwareHtab());
    expect(await untilTimer(1e6, () => r.read(2048))).toBe(true);
  });

  test('write and writeBlocks', async () => {
    const { w } = both(new SoftwareHtab({ order: 20 }));
    const bytes = block(7, run(1000, V(0n), R(1n)), 3000);
    expect(await untilTimer(5000, () => w.write(bytes))).toBe(true);
    expect(await untilTimer(5000, () => w.writeBlocks(bytes))).toBe(true);
  });

  test('table, load, open and close', async () => {
    const vm = new SoftwareHtab({ order: 18 });
    const open = async (): Promise<void> => await vm.descriptor().close();
    expect(await untilTimer(1e6, open)).toBe(true);
    expect(await untilTimer(1e6, () => vm.table())).toBe(true);
    const table = await vm.table();
    if (table === undefined) throw new Error('no table');
    expect(await untilTimer(1e6, () => vm.load(table))).toBe(true);
  });

  test('a pass over a large table ends with its signal', async () => {
    const fd = new SoftwareHtab({ order: 42 }).open();
    const pass = fd.pass({ bufferBytes: 65536, signal: AbortSignal.timeout(1) });
    const all = async (): Promise<void> => {
      for await (const _ of pass);
    };
    await expect(all()).rejects.toThrow(AbortedError);
  });
});

describe('pieces of one call', () => {
  test('many calls at once keep their order', async () => {
    const vm = new SoftwareHtab({ order: 18 });
    const { w, r } = both(vm);
    const seen: number[] = [];
    const calls = Array.from({ length: 20000 }, async (_, i) => {
      await put(w, i % 16384, V(BigInt(i)), R(1n));
      seen.push(i);
    });
    const loop = new Promise((resolve) => setImmediate(resolve)).then(() => seen.length);
    await Promise.all(calls);
    expect(await loop).toBeLessThan(20000);
    expect(seen).toEqual(seen.map((_, i) => i));
    expect((await vm.table())?.get(16383)?.dw0).toBe(V(16383n) | 0x40n);
    expect((await vm.table())?.get(19999 - 16384)?.dw0).toBe(V(19999n) | 0x40n);
    // Asked for one after another: what answers at once comes after both.
    const reads = [r.read(2 ** 20), put(w, 5, V(6n), R(1n))];
    expect(vm.hRemove(5)).toBe('H_SUCCESS');
    expect(vm.hRemove(5)).toBe('H_NOT_FOUND');
    await Promise.all(reads);
    expect(await read(r, 2 ** 20)).toBe('8 [5 v0 i1]');
  });

  test('a vCPU that starts, and whether one runs', async () => {
    const vm = new SoftwareHtab({ order: 24, memory: [{ base: 0n, size: 1n << 34n }] });
    const started = vm.startVcpu();
    expect(vm.running).toBe(true);
    await started;
    const { r } = both(vm);
    let entries = 0;
    for (let got = await r.read(65536); got.length > 0; got = await r.read(65536)) {
      entries += Math.floor(got.length / 24);
    }
    expect(entries).toBe(131072);
  });

  test('what changed, behind many pages and slots that did not', async () => {
    const vm = new SoftwareHtab({ order: 34 });
    const { w, r } = both(vm);
    // A page of 8192 slots full, then 5000 pages with an entry each.
    await w.write(block(0, run(8192, V(0n), R(1n))));
    for (let i = 1; i <= 5000; i++) await put(w, i * 8192, V(BigInt(i)), R(1n));
    for (;;) if ((await r.read(1 << 20)).length === 0) break;
    vm.hRemove(8191);
    vm.hRemove(8192 * 4999);
    expect(await read(r, 25)).toBe('8 [8191 v0 i1]');
    expect(await read(r, 4096)).toBe('8 [40951808 v0 i1]');
    expect(await read(r, 4096)).toBe('0');
    vm.hRemove(8190);
    vm.hRemove(8192 * 5000);
    expect(await read(r, 4096)).toBe('16 [8190 v0 i1] [40960000 v0 i1]');
  });

  test('an entry that is refused amid a large table ends its load', async () => {
    const { vm } = await full();
    const table = await vm.table();
    if (table === undefined) throw new Error('no table');
    const entries = Buffer.alloc(16);
    entries.writeBigUInt64BE(V(1n) | (1n << 63n));
    table.apply([{ index: 50000, nValid: 1, nInvalid: 0, entries }]);
    const other = new SoftwareHtab();
    await expect(other.load(table)).rejects.toMatchObject({ actual: 'EIO' });
    expect((await other.table())?.counts().valid).toBe(50000);
  });
});
