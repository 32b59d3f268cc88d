import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SoftwareHtab } from '../../src/fd/software/vm.js';
import {
  answer,
  block,
  both,
  counts,
  drain,
  type Entry,
  MEMORY,
  put,
  R,
  read,
  run,
  V,
} from './software-support.js';

/*
 * What kvm-hv of Linux 6.1 (Debian 6.1.176-1) answered on an emulated POWER8 to one write, and what
 * a reader saw of it: order 18 (16384 slots), 64 MiB of memory at 0.
 */
describe('one write', () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY, blocksPerWrite: 'kernel' });
  const { w, r } = both(vm);
  beforeAll(async () => {
    await put(w, 16383, V(0x1n), R(0n));
    await put(w, 704, V(0x2n), R(0n));
    await put(w, 768, V(0x3n), R(0n));
    await drain(r, 65536);
  });
  afterAll(async () => expect(await read(r, 65536)).toBe('0'));

  const r1 = '0000000000001192';
  const bad = (avpn: bigint): bigint => V(avpn) & ~1n;
  const three = run(3, V(0xf011n), R(1n));
  const third = run(3, V(0xf013n), R(1n));

  test.each<[string, Buffer, string, string, number?]>([
    [
      'index 16383, 2 entries: beyond the table',
      block(16383, run(2, V(0xf000n), R(1n))),
      'EINVAL',
      '0',
    ],
    ['index 16384, 1 entry', block(16384, run(1, V(0xf000n), R(1n))), 'EINVAL', '0'],
    ['index 16384, nothing', block(16384, []), 'EINVAL', '0'],
    ['index 0xffffffff, nothing', block(0xffffffff, []), 'EINVAL', '0'],
    ['index 0xffffffff, 2 empty', block(0xffffffff, [], 2), 'EINVAL', '0'],
    ['index 16380, 1 entry and 4 empty', block(16380, run(1, V(0xf001n), R(1n)), 4), 'EINVAL', '0'],
    [
      'index 16380, 1 entry and 3 empty: the exact end',
      block(16380, run(1, V(0xf001n), R(1n)), 3),
      '24',
      `32 [16380 v1 i0] 00000000007800c1:${r1} [16383 v0 i1]`,
    ],
    ['nothing, within the table', block(600, []), '8', '0'],
    ['the header of 24 bytes', block(600, run(1, V(0xf002n), R(1n))), '0', '0', 8],
    ['7 of 24 bytes', block(600, run(1, V(0xf002n), R(1n))), '0', '0', 7],
    ['0 of 24 bytes', block(600, run(1, V(0xf002n), R(1n))), '0', '0', 0],
    // The length check leaves out the header.
    [
      '16 of 24',
      block(600, run(1, V(0xf002n), R(1n))),
      '24',
      `24 [600 v1 i0] 0000000000780141:${r1}`,
      16,
    ],
    [
      '23 of 24',
      block(600, run(1, V(0xf002n), R(1n))),
      '24',
      `24 [600 v1 i0] 0000000000780141:${r1}`,
      23,
    ],
    ['24 of 40', block(610, run(2, V(0xf003n), R(1n))), '0', '0', 24],
    [
      '39 of 40',
      block(610, run(2, V(0xf003n), R(1n)), 1),
      '40',
      `40 [610 v2 i0] 00000000007801c1:${r1} 0000000000780241:${r1}`,
      39,
    ],
    ['an entry without V', block(630, [[bad(0xf010n), R(1n)]]), 'EINVAL', '0'],
    ['an entry of zeros', block(631, [[0n, 0n]]), 'EINVAL', '0'],
    [
      '3 entries, the middle one without V: the first stays',
      block(
        632,
        three.map(([dw0, dw1], i): Entry => [i === 1 ? bad(0xf012n) : dw0, dw1]),
      ),
      'EINVAL',
      `24 [632 v1 i0] 00000000007808c1:${r1}`,
    ],
    [
      '3 entries and 2 empty, the third of zeros',
      block(
        640,
        third.map(([dw0, dw1], i): Entry => [i === 2 ? 0n : dw0, dw1]),
        2,
      ),
      'EINVAL',
      `40 [640 v2 i0] 00000000007809c1:${r1} 0000000000780a41:${r1}`,
    ],
  ])('%s', async (_name, bytes, written, delta, count = bytes.length) => {
    expect(String(await answer(() => w.write(bytes, count)))).toBe(written);
    expect(await read(r, 4096)).toBe(delta);
  });

  // Slot, entry, what write answers, the entry as read afterwards.
  test.each<[string, bigint, bigint, string, string?]>([
    ['outside any memory slot', V(0xf020n), R(0x4000n), '24', '0000000000781041:0000000004000192'],
    ['outside, W I M', V(0xf021n), R(0x4000n) | 0x28n, '24', '00000000007810c1:00000000040001ba'],
    ['outside, I G without M', V(0xf021n), 0x400012an, '24', '00000000007810c1:000000000400012a'],
    ['a huge RPN', V(0xf022n), R(0xfffffffffffn), '24', '0000000000781141:00fffffffffff192'],
    ['PP0', V(0xf023n), R(1n) | (1n << 63n), '24', '00000000007811c1:8000000000001192'],
    ['bit 59 of DW1', V(0xf024n), R(1n) | (1n << 59n), '24', '0000000000781241:0800000000001192'],
    ['bits 54 and 53', V(0xf025n), R(1n) | (3n << 53n), '24', '00000000007812c1:0060000000001192'],
    // 2^62 is KVM's mark: never stored for the guest (HPTE_GR_RESERVED).
    ['bit 62 of DW1', V(0xf026n), R(1n) | (1n << 62n), '24', '0000000000781341:0000000000001192'],
    ['16 MiB at 0', V(0xf030n) | 4n, 0x192n, '24', '0000000000781845:0000000000000192'],
    ['64 KiB', V(0xf031n) | 4n, R(1n), '24', '00000000007818c5:0000000000001192'],
    ['LP=8', V(0xf032n) | 4n, R(8n), '24', '0000000000781945:0000000000008192'],
    ['16 MiB at 16 MiB', V(0xf033n) | 4n, R(0x1000n), '24', '00000000007819c5:0000000001000192'],
    ['16 MiB outside', V(0xf034n) | 4n, R(0x4000n), '24', '0000000000781a45:0000000004000192'],
    ['LP=0xff', V(0xf035n) | 4n, R(0xffn), 'EINVAL'],
    ['LP=3: 16 GiB in 64 MiB', V(0xf036n) | 4n, R(3n), 'EIO'],
    ['1 TiB segment', V(0xf040n) | (1n << 62n), R(1n), '24', `4000000000782041:${r1}`],
    ['B=2', V(0xf041n) | (1n << 63n), R(1n), 'EIO'],
    ['B=3', V(0xf041n) | (3n << 62n), R(1n), 'EIO'],
    ['secondary', V(0xf042n) | 2n, R(1n), '24', `0000000000782143:${r1}`],
    // 0x40 comes back set in any entry, 0x20 never.
    ['software bits 0x78', V(0xf043n) | 0x78n, R(1n), '24', `00000000007821d9:${r1}`],
    ['0x20', V(0xf044n) | 0x20n, R(1n), '24', `0000000000782241:${r1}`],
    ['0x40', V(0xf045n) | 0x40n, R(1n), '24', `00000000007822c1:${r1}`],
    ['0x20 in place of V', (V(0xf047n) & ~1n) | 0x20n, R(1n), 'EINVAL'],
  ])('an entry: %s', async (_name, dw0, dw1, written, entry) => {
    expect(String(await answer(() => put(w, 670, dw0, dw1)))).toBe(written);
    // What EIO refuses leaves the slot empty, what EINVAL refuses as it was.
    const delta =
      written === '24' ? `24 [670 v1 i0] ${entry}` : written === 'EIO' ? '8 [670 v0 i1]' : '0';
    expect(await read(r, 4096)).toBe(delta);
    await put(w, 670, V(1n), R(1n));
    await read(r, 4096);
  });

  test('empty slots, with stray bytes behind', async () => {
    const bytes = Buffer.concat([block(680, [], 100), Buffer.alloc(4)]);
    expect(await w.write(bytes, 8)).toBe(8);
    expect(await read(r, 4096)).toBe('16 [704 v0 i1] [768 v0 i1]');
    expect(await w.write(bytes)).toBe(8);
    expect(await read(r, 4096)).toBe('0');
  });

  test('a buffer that is not there', async () => {
    expect(await answer(() => w.write(new Uint8Array(0), 24))).toBe('EFAULT');
    expect(await answer(() => w.write(new Uint8Array(7), 8))).toBe('EFAULT');
    expect(await answer(() => w.write(new Uint8Array(0), 7))).toBe(0);
    // The first entry is there, the second is not.
    const bytes = block(690, run(2, V(0xf050n), R(1n)));
    expect(await answer(() => w.write(bytes.subarray(0, 39), 40))).toBe('EFAULT');
    expect(await read(r, 4096)).toBe(`24 [690 v1 i0] 0000000000782841:${r1}`);
  });
});

test('a header in the other byte order: 0', async () => {
  const { w } = both(new SoftwareHtab({ order: 18, memory: MEMORY }));
  const bytes = block(0x200, run(1, V(0x77n), R(0x22n)));
  bytes.set(Buffer.from('0000020000010000', 'hex'));
  expect(await w.write(bytes)).toBe(0);
});

test('a write fd ignores its start index and the bolted flag', async () => {
  const vm = new SoftwareHtab({ order: 18 });
  const w = vm.descriptor({ flags: 3n, startIndex: 700n });
  expect(await put(w, 900, V(1n), R(13n))).toBe(24);
  expect(await put(w, 3, V(1n), R(13n))).toBe(24);
});

/* The kernel looks for the second header in the entry that it has just written. */
describe('several blocks in one write', () => {
  const r9 = '0000000000009192';
  const one = (index: number, avpn: bigint): Buffer => block(index, run(1, V(avpn), R(9n)));
  const oneOf = (index: number, dw0: bigint): Buffer => block(index, [[dw0, R(9n)]]);

  async function filled(blocksPerWrite: 'kernel' | 'documented') {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY, blocksPerWrite });
    const fds = both(vm);
    await drain(fds.r, 65536);
    for (let i = 0; i < 16384; i += 16) await put(fds.w, i, V(0x5000n + BigInt(i)), R(5n));
    const pass = await drain(fds.r, 65536);
    expect([pass.reads, pass.bytes.length]).toEqual([1, 24576]);
    return { vm, ...fds };
  }

  test('as the kernel does it', async () => {
    const { vm, w, r } = await filled('kernel');
    const write = async (...blocks: Buffer[]) => {
      const written = String(await answer(() => w.write(Buffer.concat(blocks))));
      return [written, await read(r, 4096)];
    };
    expect(await write(block(16, [], 1), block(32, [], 1), block(48, [], 1))).toEqual([
      '24',
      '24 [16 v0 i1] [32 v0 i1] [48 v0 i1]',
    ]);
    expect(await write(block(64, [], 1), one(81, 9n))).toEqual([
      '32',
      `32 [64 v0 i1] [81 v1 i0] 00000000000004c1:${r9}`,
    ]);
    // 0x481 as a header: index 0, no entries, 0x8104 empty slots, which is too many.
    expect(await write(one(97, 9n), block(112, [], 1))).toEqual([
      'EINVAL',
      `24 [97 v1 i0] 00000000000004c1:${r9}`,
    ]);
    // DW0=1 as a header: 256 empty slots from 0 on. What was just written is not spared.
    expect(await write(oneOf(113, 1n), Buffer.alloc(8))).toEqual([
      '32',
      '96 [0 v0 i1] [80 v0 i2] [96 v0 i2] [112 v0 i2] ' +
        [128, 144, 160, 176, 192, 208, 224, 240].map((slot) => `[${slot} v0 i1]`).join(' '),
    ]);
    const entry = `24 [113 v1 i0] 0000000000000041:${r9}`;
    expect(await write(oneOf(113, 0x41n))).toEqual(['24', entry]);
    expect(await write(oneOf(113, 0x41n), Buffer.alloc(8))).toEqual(['EINVAL', entry]);
    expect(await write(oneOf(113, 0x41n), one(200, 1n))).toEqual(['EINVAL', entry]);
    const { bytes } = await drain(vm.descriptor(), 65536);
    expect(bytes.length).toBe(24224);
    expect(counts(bytes)).toEqual({ blocks: 1010, valid: 1009, invalid: 15375 });
  });

  test('whole blocks and parts, as the kernel does it', async () => {
    const vm = new SoftwareHtab({ order: 18, memory: MEMORY, blocksPerWrite: 'kernel' });
    const { w, r } = both(vm);
    await drain(r, 65536);
    const r1 = '0000000000001192';
    const first = (index: number, avpn: bigint): Buffer => block(index, run(1, V(avpn), R(1n)));
    for (const [bytes, slot, dw0] of [
      [[first(620, 0xf004n), first(640, 0xf005n)], 620, '0000000000780241'],
      [[first(620, 0xf006n), first(640, 0xf007n).subarray(0, 8)], 620, '0000000000780341'],
      [[first(620, 0xf008n), Buffer.alloc(4)], 620, '0000000000780441'],
      [[first(620, 0xf009n), Buffer.alloc(1)], 620, '00000000007804c1'],
      [[first(622, 0xf00an), first(20000, 0xf00bn)], 622, '0000000000780541'],
      [[first(624, 0xf00cn), oneOf(626, V(0xf00dn) & ~1n)], 624, '0000000000780641'],
    ] as const) {
      expect(await w.write(Buffer.concat(bytes))).toBe(24);
      expect(await read(r, 4096)).toBe(`24 [${slot} v1 i0] ${dw0}:${r1}`);
    }
  });

  test('as documented: all of them, and whole ones only', async () => {
    const { w, r } = await filled('documented');
    const all = Buffer.concat([one(97, 9n), block(112, [], 1), one(200, 10n), block(600, [])]);
    expect(await w.write(all)).toBe(24 + 8 + 24 + 8);
    expect(await read(r, 4096)).toBe(
      `56 [97 v1 i0] 00000000000004c1:${r9} [112 v0 i1] [200 v1 i0] 0000000000000541:${r9}`,
    );
    // A block that does not end within the count is not begun.
    for (const [count, taken] of [
      [0, 0],
      [7, 0],
      [8, 0],
      [16, 0],
      [23, 0],
      [24, 24],
      [31, 24],
      [32, 32],
      [55, 32],
      [56, 56],
    ] as const) {
      expect(await w.write(all, count)).toBe(taken);
    }
    await drain(r, 4096);
    // An error hides what was written before it; that stays.
    const bad = Buffer.concat([one(300, 9n), oneOf(301, 0n), one(302, 9n)]);
    expect(await answer(() => w.write(bad))).toBe('EINVAL');
    expect(await read(r, 4096)).toBe(`24 [300 v1 i0] 00000000000004c1:${r9}`);
    expect(await answer(() => w.write(Buffer.concat([one(300, 9n), block(20000, [])])))).toBe(
      'EINVAL',
    );
    expect(await answer(() => w.write(one(300, 9n), 48))).toBe('EFAULT');
  });

  test.each(['documented', 'kernel'] as const)('one write each (%s)', async (mode) => {
    const { w, r } = await filled(mode);
    const good = [one(97, 9n), block(112, [], 1), one(200, 10n)];
    expect(await w.writeBlocks(Buffer.concat(good))).toEqual({
      blocks: 3,
      bytes: 56,
      errno: undefined,
    });
    expect((await read(r, 4096)).startsWith('56 [97 v1 i0]')).toBe(true);
    const bad = [...good, oneOf(301, V(1n) | (1n << 63n)), one(302, 9n)];
    expect(await w.writeBlocks(Buffer.concat(bad))).toEqual({ blocks: 3, bytes: 56, errno: 'EIO' });
    for (const missing of [1, 16, 17, 23]) {
      const part = Buffer.concat(good).subarray(0, 56 - missing);
      expect(await w.writeBlocks(part)).toEqual({ blocks: 2, bytes: 32, errno: 'EINVAL' });
    }
    expect(await r.writeBlocks(Buffer.concat(good))).toEqual({
      blocks: 0,
      bytes: 0,
      errno: 'EBADF',
    });
  });
});

describe('hosts and memory slots', () => {
  test('POWER9 loses the upper bits of AVPN: it stores the format of ISA 3.0', async () => {
    for (const [host, dw0] of [
      ['power8', '7fffffffffffffc5'],
      ['power9-hash', '400fffffffffffc5'],
      ['power9-radix', '400fffffffffffc5'],
    ] as const) {
      const vm = new SoftwareHtab({ order: 18, host });
      const { w, r } = both(vm);
      // Bits 58 and 59 of DW1 stay: only KVM's own copy gives them up for B.
      await put(w, 0, 0x7fffffffffffff85n, R(1n) | (3n << 58n));
      expect(await read(r, 25)).toBe(`24 [0 v1 i16383] ${dw0}:0c00000000001192`);
    }
  });

  test.each([
    // A page of 16 MiB needs a host page as large; transparent ones are 2 MiB with radix.
    ['power8', 64n << 20n, 0n, undefined, 24],
    ['power9-hash', 64n << 20n, 0n, undefined, 24],
    ['power9-radix', 64n << 20n, 0n, undefined, 'EIO'],
    ['power9-radix', 64n << 20n, 0n, 0x40000000n, 24],
    ['power8', 64n << 20n, 0n, 0x10000n, 'EIO'],
    // Where the host has no page yet, it is taken as absent.
    ['power9-radix', 64n << 20n, 0n, 0n, 24],
    // The memory slot must consist of whole pages of 16 MiB, in address and size.
    ['power8', 63n << 20n, 0n, undefined, 'EIO'],
    ['power8', 32n << 20n, 1n << 20n, undefined, 24],
    ['power8', 64n << 20n, 1n << 20n, undefined, 24],
    ['power8', 16n << 20n, 16n << 20n, undefined, 24],
  ] as const)('16 MiB page on %s, slot of %i at %i, host page %i: %s', async (...row) => {
    const [host, size, base, hostPage, written] = row;
    const vm = new SoftwareHtab({ order: 18, host, memory: [{ base, size, hostPage }] });
    const w = vm.descriptor({ write: true });
    expect(await answer(() => put(w, 5, V(1n) | 4n, 0x192n))).toBe(written);
    // 64 KiB and 4 KiB always fit.
    expect(await put(w, 6, V(1n) | 4n, R(1n))).toBe(24);
    expect(await put(w, 7, V(1n), R(1n))).toBe(24);
  });

  test('memory slots that no VM has', () => {
    const usage = { code: 'E_USAGE' };
    for (const memory of [
      [{ base: 0n, size: 0x18000n }],
      [{ base: 0x8000n, size: 0x10000n }],
      [{ base: 0n, size: 0n }],
      [{ base: -0x10000n, size: 0x10000n }],
      [{ base: 1n << 60n, size: 0x10000n }],
      [{ base: 0n, size: 0x10000n, hostPage: 0x1000n }],
      [
        { base: 0x20000n, size: 0x20000n },
        { base: 0n, size: 0x30000n },
      ],
    ]) {
      expect(() => new SoftwareHtab({ memory })).toThrow(expect.objectContaining(usage));
    }
  });
});
