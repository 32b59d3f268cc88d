import { describe, expect, test } from 'vitest';
import { IoError } from '../../src/errors.js';
import { SoftwareHtab } from '../../src/fd/software/vm.js';
import {
  answer,
  block,
  both,
  counts,
  drain,
  MEMORY,
  put,
  R,
  read,
  run,
  V,
} from './software-support.js';

/*
 * What descriptors and their VM do: kvm-hv of Linux 6.1 (Debian 6.1.176-1) on emulated POWER8 and
 * POWER9, or where marked so, its source.
 */

describe('flags', () => {
  const vm = new SoftwareHtab({ order: 18 });

  test.each([0n, 1n, 2n, 3n])('%i is granted', (flags) => {
    expect(vm.descriptor({ flags }).backend).toBe('software');
  });

  test.each([4n, 8n, 0x80n, 1n << 32n, (1n << 64n) - 1n])('%i: EINVAL', (flags) => {
    expect(() => vm.descriptor({ flags })).toThrow(
      expect.objectContaining({ code: 'E_HTAB_FD', actual: 'EINVAL' }),
    );
  });

  test('a start index that is not a u64', () => {
    for (const startIndex of [-1n, 1n << 64n]) {
      expect(() => vm.descriptor({ startIndex })).toThrow(
        expect.objectContaining({ code: 'E_USAGE' }),
      );
    }
  });
});

test('read on a write fd, write on a read fd, anything on a closed one: EBADF', async () => {
  const vm = new SoftwareHtab({ order: 18 });
  const { w, r } = both(vm);
  expect(await read(w, 4096)).toBe('EBADF');
  expect(await answer(() => put(r, 0, V(1n), R(1n)))).toBe('EBADF');
  await expect(r.write(new Uint8Array(0))).rejects.toMatchObject({ code: 'E_HTAB_FD' });
  const last = r.read(4096);
  await r.close();
  await r.close();
  expect((await last).length).toBe(8);
  for (const call of [
    () => r.read(25),
    () => r.write(new Uint8Array(8)),
    () => r.writeBlocks(new Uint8Array(8)),
    () => r.pread(25, 0),
  ]) {
    await expect(call()).rejects.toMatchObject({ code: 'E_IO', actual: 'EBADF' });
  }
});

test('lengths that are none', async () => {
  const { w, r } = both(new SoftwareHtab({ order: 18 }));
  for (const length of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
    await expect(r.read(length)).rejects.toMatchObject({ code: 'E_USAGE' });
    await expect(w.write(new Uint8Array(8), length)).rejects.toMatchObject({ code: 'E_USAGE' });
  }
  // No process has that many addresses (access_ok).
  expect(await read(r, 2 ** 52)).toBe('EFAULT');
  expect(await answer(() => w.write(new Uint8Array(8), 2 ** 52))).toBe('EFAULT');
});

test('no HPT yet: reads give nothing, writes EINVAL; the first pass ends with the first read', async () => {
  const vm = new SoftwareHtab();
  const { w, r } = both(vm);
  const late = vm.descriptor();
  expect([vm.order, vm.radix, await vm.table()]).toEqual([undefined, false, undefined]);
  expect(await answer(() => put(w, 0, V(1n), R(1n)))).toBe('EINVAL');
  expect(await answer(() => w.write(block(0, [], 5)))).toBe('EINVAL');
  expect(await answer(() => w.write(new Uint8Array(7)))).toBe(0);
  // 24 bytes are too few for the kernel to look at the table at all.
  expect(await read(late, 24)).toBe('0');
  for (const length of [4096, 65536, 24]) expect(await read(r, length)).toBe('0');
  vm.allocate(20);
  expect(await put(w, 0, V(1n), R(1n))).toBe(24);
  const entry = '00000000000000c1:0000000000001192';
  expect(await read(r, 4096)).toBe(`24 [0 v1 i0] ${entry}`);
  expect(await read(r, 4096)).toBe('0');
  expect(await read(late, 25)).toBe(`24 [0 v1 i65535] ${entry}`);
});

test('a radix guest', async () => {
  const vm = new SoftwareHtab({ host: 'power9-radix', memory: MEMORY });
  const { w, r } = both(vm);
  expect(vm.radix).toBe(true);
  expect(await read(r, 4096)).toBe('0');
  expect(await answer(() => put(w, 0, V(1n), R(1n)))).toBe('EINVAL');
  expect(await answer(() => w.write(new Uint8Array(0)))).toBe('EINVAL');
  vm.setRadix(true);
  expect(await read(r, 4096)).toBe('0');
  // A hash guest from here on, and the same descriptors work; no read has ended the first pass.
  vm.allocate(18);
  expect(vm.radix).toBe(false);
  expect(await put(w, 0, V(1n), R(1n))).toBe(24);
  const entry = '00000000000000c1:0000000000001192';
  expect(await read(r, 4096)).toBe(`24 [0 v1 i16383] ${entry}`);
  // Back to radix: the HPT is gone.
  vm.setRadix(true);
  expect([vm.radix, vm.order]).toEqual([true, undefined]);
  expect([vm.hEnter(0, V(1n), R(1n)), vm.hRemove(0)]).toEqual(['H_FUNCTION', 'H_FUNCTION']);
  expect(await read(r, 4096)).toBe('0');
  expect(await read(vm.descriptor(), 4096)).toBe('0');
  expect(await answer(() => put(vm.descriptor({ write: true }), 0, V(1n), R(1n)))).toBe('EINVAL');
  vm.setRadix(false);
  expect([vm.radix, vm.order]).toEqual([false, undefined]);
  expect(await read(vm.descriptor(), 4096)).toBe('0');
  vm.configureMmu(1n, (1n << 63n) | 24n);
  expect(vm.radix).toBe(true);
  for (const [flags, table] of [
    [4n, 0n],
    [1n, 0n],
    [0n, 1n << 63n],
    [1n, (1n << 63n) | 25n],
  ] as const) {
    expect(await answer(() => vm.configureMmu(flags, table))).toBe('EINVAL');
  }
});

test('MMU modes of the other hosts', async () => {
  const power8 = new SoftwareHtab({ order: 18 });
  expect(await answer(() => power8.setRadix(true))).toBe('ENODEV');
  expect(await answer(() => power8.setRadix(false))).toBe('ENODEV');
  const hash = new SoftwareHtab({ order: 18, host: 'power9-hash' });
  expect(await answer(() => hash.setRadix(true))).toBe('EINVAL');
  hash.setRadix(false);
  expect([power8.order, hash.order]).toEqual([18, 18]);
});

describe('allocating again while descriptors are open (kvmppc_alloc_reset_hpt)', () => {
  test('the same order: entries go, marks stay', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
    const { w, r } = both(vm);
    await put(w, 5, V(1n), R(1n));
    await put(w, 300, V(1n), R(1n));
    await drain(r, 65536);
    await put(w, 5, V(2n), R(1n));
    await put(w, 700, V(2n), R(1n));
    vm.allocate(18);
    // 300 went too, and no reader hears of it.
    expect(await read(r, 4096)).toBe('16 [5 v0 i1] [700 v0 i1]');
    expect(await read(r, 4096)).toBe('0');
    await put(w, 6, V(3n), R(1n));
    vm.allocate(18);
    expect(await read(vm.descriptor(), 4096)).toBe('8 [0 v0 i16384]');
    expect(await read(r, 4096)).toBe('0');
  });

  test('another order: no marks; cursor and pass stay', async () => {
    const vm = new SoftwareHtab({ order: 19, memory: MEMORY });
    const { w, r } = both(vm);
    const late = vm.descriptor({ startIndex: 20000n });
    await drain(r, 65536);
    await put(w, 5, V(1n), R(1n));
    const middle = vm.descriptor();
    await put(w, 0, V(1n), R(1n));
    expect((await middle.read(25)).length).toBe(24);
    vm.allocate(18);
    expect(await read(r, 4096)).toBe('0');
    // On from slot 5 in its first pass.
    expect(await read(middle, 4096)).toBe('8 [5 v0 i16379]');
    expect(await answer(() => put(w, 16384, V(1n), R(1n)))).toBe('EINVAL');
    vm.allocate(20);
    expect(await read(late, 4096)).toBe('8 [20000 v0 i45536]');
    // A cursor beyond a table that became smaller.
    const end = vm.descriptor({ startIndex: 20000n });
    vm.allocate(18);
    await put(w, 3, V(1n), R(1n));
    expect(await read(end, 4096)).toBe('0');
    expect(await read(end, 4096)).toBe('24 [3 v1 i0] 00000000000000c1:0000000000001192');
  });

  test('an order that is refused leaves no HPT', async () => {
    const vm = new SoftwareHtab({ order: 18, maxOrder: 26 });
    const { w, r } = both(vm);
    expect(await answer(() => vm.allocate(17))).toBe('EINVAL');
    expect(vm.order).toBe(undefined);
    expect(await answer(() => put(w, 0, V(1n), R(1n)))).toBe('EINVAL');
    vm.allocate(18);
    expect(await answer(() => vm.allocate(47))).toBe('EINVAL');
    vm.allocate(18);
    expect(await answer(() => vm.allocate(27))).toBe('ENOMEM');
    expect([vm.order, await read(r, 4096)]).toEqual([undefined, '0']);
    // For 0 without an HPT the kernel clears memory that is not there.
    expect(await answer(() => vm.allocate(0))).toBe('EINVAL');
    expect(await answer(() => new SoftwareHtab().allocate(0))).toBe('EINVAL');
    expect(() => new SoftwareHtab({ order: 17 })).toThrow(
      expect.objectContaining({ code: 'E_ORDER' }),
    );
  });
});

describe('marks', () => {
  test('are only made while a reader is open (hpte_mod_interest)', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
    const w = vm.descriptor({ write: true });
    const r = vm.descriptor();
    await put(w, 1, V(1n), R(1n));
    await put(w, 2, V(1n), R(1n));
    await put(w, 3, V(1n), R(1n));
    await r.close();
    // Without a reader, entering clears the mark of the slot; removing leaves it.
    await put(w, 1, V(2n), R(1n));
    await w.write(block(2, [], 1));
    await put(w, 4, V(2n), R(1n));
    const late = vm.descriptor({ startIndex: 16384n });
    expect(await read(late, 4096)).toBe('0');
    expect(await read(late, 4096)).toBe('32 [2 v0 i1] [3 v1 i0] 00000000000000c1:0000000000001192');
  });

  test('of a failing entry: its slot was emptied first', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
    const { w, r } = both(vm);
    await put(w, 1, V(1n), R(1n));
    await drain(r, 4096);
    expect(await answer(() => put(w, 1, V(1n) | (1n << 63n), R(1n)))).toBe('EIO');
    expect(await answer(() => put(w, 2, V(1n) | (1n << 63n), R(1n)))).toBe('EIO');
    expect(await read(r, 4096)).toBe('8 [1 v0 i1]');
  });

  test('of unbolted entries are taken by a reader of bolted ones', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
    const { w, r } = both(vm);
    await drain(r, 4096);
    await put(w, 9, V(1n), R(1n));
    expect(await read(vm.descriptor({ boltedOnly: true }), 4096)).toBe('8 [0 v0 i16384]');
    expect(await read(r, 4096)).toBe('0');
  });
});

test('EFAULT in a first pass takes marks from other readers', async () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
  const { w, r } = both(vm);
  await drain(r, 4096);
  await put(w, 0, V(1n), R(1n));
  await put(w, 1, V(1n), R(1n));
  await put(w, 2, V(1n), R(1n));
  // The second entry is taken before it turns out that there is no room for it.
  expect(await read(vm.descriptor(), 4096, 24)).toBe('EFAULT');
  expect(await read(r, 4096)).toBe('24 [2 v1 i0] 00000000000000c1:0000000000001192');
});

describe('a running guest', () => {
  test('writing and allocating are EBUSY, reading is not', async () => {
    const vm = new SoftwareHtab({ order: 18, host: 'power9-radix', memory: MEMORY });
    const { w, r } = both(vm);
    vm.running = true;
    expect(await answer(() => put(w, 1, V(1n), R(1n)))).toBe('EBUSY');
    expect(await answer(() => w.write(new Uint8Array(0)))).toBe('EBUSY');
    expect(await w.writeBlocks(block(0, []))).toMatchObject({ blocks: 0, errno: 'EBUSY' });
    expect(await answer(() => vm.allocate(18))).toBe('EBUSY');
    expect(await answer(() => vm.setRadix(true))).toBe('EBUSY');
    vm.setRadix(false);
    expect(await read(r, 4096)).toBe('8 [0 v0 i16384]');
    const error = await w.write(block(0, [])).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(IoError);
    expect(String(error)).toMatch(/a vCPU of the guest is running; stop the guest first/);
    vm.running = false;
    expect(await put(w, 1, V(1n), R(1n))).toBe(24);
  });

  test('the entries that KVM makes for its real mode', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
    const w = vm.descriptor({ write: true });
    await vm.startVcpu();
    expect(await answer(() => put(w, 10, V(0x100n), R(1n)))).toBe('EBUSY');
    const r = vm.descriptor();
    const first = await read(r, 4096);
    expect(first.match(/^\d+|\[.*?\]( [0-9a-f:]*)?/g)?.slice(0, 4)).toEqual([
      '4088',
      '[0 v0 i8199] ',
      '[8199 v1 i7] 4001ffffff0003d5:0000000003ff1190',
      '[8207 v1 i7] 4001ffffff0003d5:0000000003fe1190',
    ]);
    for (const entry of [
      '[9559 v1 i7] 4001ffffff000355:0000000003551190',
      '[10919 v1 i7] 4001ffffff0002d5:0000000002ab1190',
      '[12279 v1 i7] 4001ffffff000255:0000000002011190',
    ]) {
      expect(await read(r, 4096)).toContain(`4080 ${entry} `);
    }
    vm.running = false;
    expect(await put(w, 20, V(0x200n), R(1n))).toBe(24);
    expect(await read(r, 4096)).toContain(
      '4080 [13639 v1 i7] 4001ffffff000155:0000000001571190 [13647 v1 i7] ',
    );
    const { bytes, reads } = await drain(vm.descriptor(), 65536);
    expect([reads, bytes.length]).toEqual([1, 24608]);
    expect(counts(bytes)).toEqual({ blocks: 1026, valid: 1025, invalid: 15359 });
    // The MMU is set up now; after a new HPT it is not.
    await w.write(block(8199, [], 1));
    await vm.startVcpu();
    vm.running = false;
    expect((await drain(vm.descriptor(), 65536)).bytes.length).toBe(24584);
    vm.allocate(18);
    await vm.startVcpu();
    expect(counts((await drain(vm.descriptor(), 65536)).bytes).valid).toBe(1024);
  });

  test('a vCPU without HPT gets one of order 24; without memory at 0 it does not run', async () => {
    const vm = new SoftwareHtab({ memory: [{ base: 1n << 30n, size: 1n << 20n }] });
    expect(await answer(() => vm.startVcpu())).toBe('EINVAL');
    expect([vm.order, vm.running]).toEqual([24, false]);
    // An entry of that area, written: KVM takes the MMU as set up.
    await vm.descriptor({ write: true }).write(block(7, [[0x4001ffffff000015n, 0x1190n]]));
    await vm.startVcpu();
    expect(vm.running).toBe(true);
  });

  test('R and C that the processor sets are a change, once', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
    const { w, r } = both(vm);
    const clean = R(1n) & ~0x180n;
    await w.write(block(0, [...run(3, V(1n), clean), [V(9n), R(0x4000n) & ~0x180n]]));
    await drain(r, 4096);
    expect([vm.touch(0), vm.touch(1, { store: true }), vm.touch(4)]).toEqual([true, true, false]);
    // A device's entry has no R and C.
    expect(vm.touch(3, { store: true })).toBe(true);
    expect(await read(r, 4096)).toBe(
      '40 [0 v2 i0] 00000000000000c1:0000000000001112 0000000000000141:0000000000001192',
    );
    vm.touch(0);
    expect(await read(r, 4096)).toBe('0');
    vm.touch(0, { store: true });
    expect((await vm.table())?.get(0)?.dw1).toBe(0x1192n);
    expect(await read(r, 4096)).toBe('24 [0 v1 i0] 00000000000000c1:0000000000001192');
    // Memory that goes: R and C are kept for the guest, which is a change.
    vm.touch(2);
    vm.setMemory([]);
    expect(await read(r, 4096)).toBe('24 [2 v1 i0] 00000000000001c1:0000000000001112');
    vm.touch(2, { store: true });
    expect(await read(r, 4096)).toBe('0');
  });

  test('H_ENTER and H_REMOVE', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
    const { r } = both(vm);
    await drain(r, 4096);
    vm.running = true;
    // V is not looked at.
    expect(vm.hEnter(5, V(1n) & ~1n, R(1n))).toBe('H_SUCCESS');
    expect(vm.hEnter(5, V(2n), R(1n))).toBe('H_PTEG_FULL');
    expect(vm.hEnter(6, V(2n) | (1n << 63n), R(1n))).toBe('H_PARAMETER');
    expect(vm.hEnter(6, V(2n) | 4n, R(0xffn))).toBe('H_PARAMETER');
    expect([vm.hEnter(16384, V(2n), R(1n)), vm.hRemove(16384)]).toEqual([
      'H_PARAMETER',
      'H_PARAMETER',
    ]);
    expect(await read(r, 4096)).toBe('24 [5 v1 i0] 00000000000000c1:0000000000001192');
    expect([vm.hRemove(5), vm.hRemove(5)]).toEqual(['H_SUCCESS', 'H_NOT_FOUND']);
    expect(await read(r, 4096)).toBe('8 [5 v0 i1]');
  });
});

test('two writers, and a reader that outlives them', async () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
  const a = vm.descriptor({ write: true });
  const b = vm.descriptor({ write: true });
  const r = vm.descriptor();
  // Not awaited: calls are carried out in the order in which they were made.
  const written = [put(a, 1, V(1n), R(1n)), put(b, 2, V(2n), R(1n))];
  const entries = '00000000000000c1:0000000000001192 0000000000000141:0000000000001192';
  expect(await read(r, 4096)).toBe(`48 [0 v0 i1] [1 v2 i16381] ${entries}`);
  expect(await Promise.all(written)).toEqual([24, 24]);
  await a.close();
  await put(b, 3, V(3n), R(1n));
  await b.close();
  expect(await read(r, 4096)).toBe('24 [3 v1 i0] 00000000000001c1:0000000000001192');
});

test('a table goes in and comes out', async () => {
  const vm = new SoftwareHtab({ order: 20, memory: MEMORY });
  const w = vm.descriptor({ write: true });
  for (let i = 0; i < 65536; i += 97) await put(w, i, V(BigInt(i)), R(BigInt(i)));
  const table = await vm.table();
  expect(table?.counts()).toMatchObject({ valid: 676, notValid: 0 });
  const copy = new SoftwareHtab({ memory: MEMORY });
  if (table !== undefined) await copy.load(table);
  const first = await drain(vm.descriptor(), 4096);
  expect((await drain(copy.descriptor(), 4096)).bytes).toEqual(first.bytes);
  // Taking it as a table takes no marks.
  const r = vm.descriptor({ startIndex: 65536n });
  await put(w, 7, V(7n), R(7n));
  await vm.table();
  expect(await read(r, 25)).toBe('0');
  expect(await read(r, 4096)).toBe('24 [7 v1 i0] 00000000000003c1:0000000000007192');
});

describe('messages say what to do', () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
  const { w, r } = both(vm);
  const message = async (call: () => unknown): Promise<string> => {
    try {
      await call();
    } catch (error) {
      if (error instanceof IoError) return error.message;
    }
    return 'no error';
  };

  test.each<[string, () => unknown, RegExp]>([
    ['range', () => put(w, 16384, V(1n), R(1n)), /index 16384, 1 valid, 0 invalid, in 16384 slots/],
    [
      'no V',
      () => put(w, 7, 0n, R(1n)),
      /entry for slot 7 is not valid \(V is not set\); got EINVAL/,
    ],
    ['LP', () => put(w, 8, V(1n) | 4n, R(2n)), /entry for slot 8 has an LP encoding/],
    ['B', () => put(w, 9, V(1n) | (1n << 63n), R(1n)), /slot 9 has the reserved segment size.*EIO/],
    [
      '16 GiB',
      () => put(w, 9, V(1n) | 4n, R(3n)),
      /memory slot does not hold as a whole; the slot is/,
    ],
    [
      'EFAULT',
      () => w.write(new Uint8Array(8), 9e9).then(() => w.write(new Uint8Array(0), 8)),
      /the buffer ends/,
    ],
    ['EBADF', () => w.read(25), /opened for writing; got EBADF/],
    ['closed', () => r.close().then(() => r.read(25)), /cannot read the HTAB fd: it is closed/],
    ['flags', () => vm.descriptor({ flags: 12n }), /flags 0xc has bits/],
    ['mode', () => vm.setRadix(true), /POWER8 has no radix mode; got ENODEV/],
    ['order', () => vm.allocate(50), /no HPT has order 50.*There is none now/],
    ['no HPT', () => put(w, 0, V(1n), R(1n)), /no HPT yet \(KVM_PPC_ALLOCATE_HTAB\)/],
    ['vCPU', () => new SoftwareHtab().startVcpu(), /no memory at address 0/],
    [
      'radix',
      () =>
        new SoftwareHtab({ host: 'power9-radix' })
          .descriptor({ write: true })
          .write(new Uint8Array(8)),
      /runs in radix mode/,
    ],
  ])('%s', async (_name, call, expected) => {
    expect(await message(call)).toMatch(expected);
  });
});
