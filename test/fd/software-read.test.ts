import { beforeEach, describe, expect, test } from 'vitest';
import type { SoftwareDescriptor } from '../../src/fd/software/descriptor.js';
import { SoftwareHtab } from '../../src/fd/software/vm.js';
import {
  block,
  both,
  counts,
  drain,
  MEMORY,
  put,
  R,
  read,
  run,
  show,
  V,
} from './software-support.js';

/*
 * What kvm-hv of Linux 6.1 (Debian 6.1.176-1) answered on an emulated POWER8, call by call.
 * `[index v n_valid i n_invalid]` is a header; entries are DW0:DW1.
 */

/** Entries at 0 to 2 and at 100 to 104, as read returns them. */
const A = [
  '0000000000080041:0000000000001192',
  '00000000000800c1:0000000000001192',
  '0000000000080141:0000000000001192',
];
const B = [
  '0000000000100041:0000000000002192',
  '00000000001000c1:0000000000002192',
  '0000000000100141:0000000000002192',
  '00000000001001c1:0000000000002192',
  '0000000000100241:0000000000002192',
];

describe('buffers: a fresh fd each, order 18 (16384 slots)', () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
  let r: SoftwareDescriptor;
  beforeEach(async () => {
    const w = vm.descriptor({ write: true });
    await w.write(block(0, run(3, V(0x1000n), R(1n))));
    await w.write(block(100, run(5, V(0x2000n), R(2n))));
    await w.close();
    r = vm.descriptor();
  });

  const one = `24 [0 v1 i0] ${A[0]}`;
  const two = `40 [0 v2 i0] ${A[0]} ${A[1]}`;
  const three = `56 [0 v3 i97] ${A.join(' ')}`;
  const four = `80 [0 v3 i97] ${A.join(' ')} [100 v1 i0] ${B[0]}`;
  const five = `96 [0 v3 i97] ${A.join(' ')} [100 v2 i0] ${B[0]} ${B[1]}`;

  test.each<readonly [number, string]>([
    // Up to a header and an entry nothing is given: it looks like the end of a pass.
    ...[0, 1, 7, 8, 16, 20, 23, 24].map((n) => [n, '0'] as const),
    ...[25, 31, 32, 39, 40].map((n) => [n, one] as const),
    ...[41, 48, 56].map((n) => [n, two] as const),
    ...[57, 64, 72, 80].map((n) => [n, three] as const),
    ...[81, 88, 96].map((n) => [n, four] as const),
    ...[100, 104].map((n) => [n, five] as const),
    [4096, `144 [0 v3 i97] ${A.join(' ')} [100 v5 i16279] ${B.join(' ')}`],
  ])('%i bytes', async (length, expected) => {
    expect(await read(r, length)).toBe(expected);
    // What is asked for is not what is allocated: a buffer of 2 GiB costs nothing here.
    if (length === 4096) expect(await read(vm.descriptor(), 2 ** 40)).toBe(expected);
  });

  test.each([
    [
      25,
      [
        one,
        `24 [1 v1 i0] ${A[1]}`,
        `24 [2 v1 i97] ${A[2]}`,
        `24 [100 v1 i0] ${B[0]}`,
        `24 [101 v1 i0] ${B[1]}`,
      ],
    ],
    [40, [one, `24 [1 v1 i0] ${A[1]}`, `24 [2 v1 i97] ${A[2]}`, `24 [100 v1 i0] ${B[0]}`]],
    [
      41,
      [
        two,
        `24 [2 v1 i97] ${A[2]}`,
        `40 [100 v2 i0] ${B[0]} ${B[1]}`,
        `40 [102 v2 i0] ${B[2]} ${B[3]}`,
        `24 [104 v1 i16279] ${B[4]}`,
        '0',
      ],
    ],
    [
      57,
      [three, `56 [100 v3 i0] ${B[0]} ${B[1]} ${B[2]}`, `40 [103 v2 i16279] ${B[3]} ${B[4]}`, '0'],
    ],
    [100, [five, `56 [102 v3 i16279] ${B[2]} ${B[3]} ${B[4]}`, '0']],
  ])('again and again %i bytes', async (length, expected) => {
    for (const answer of expected) expect(await read(r, length)).toBe(answer);
  });

  test('a buffer that is not there, or ends after 32 bytes: EFAULT, the pass begins anew', async () => {
    expect(await read(r, 4096, 0)).toBe('EFAULT');
    expect(await read(r, 4096)).toBe(
      `144 [0 v3 i97] ${A.join(' ')} [100 v5 i16279] ${B.join(' ')}`,
    );
    const other = vm.descriptor();
    expect(await read(other, 4096, 32)).toBe('EFAULT');
    expect(await read(other, 24, 0)).toBe('0');
    expect(await read(other, 57, 56)).toBe(three);
  });

  test('a position: ESPIPE', async () => {
    await expect(r.pread(4096, 500)).rejects.toMatchObject({ code: 'E_HTAB_FD', actual: 'ESPIPE' });
  });
});

test('headers in the byte order of the host, entries big-endian', async () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
  const { w, r } = both(vm);
  const bytes = block(0x102, [[V(0x123456n), R(0x21n)]], 2);
  expect(bytes.toString('hex')).toBe('020100000100020000000000091a2b010000000000021192');
  expect(await w.write(bytes)).toBe(24);
  // An empty run up to 0x102, the entry with its empty slots and the rest.
  expect(Buffer.from(await r.read(4096)).toString('hex')).toBe(
    '0000000000000201' + '020100000100fd3e' + '00000000091a2b410000000000021192',
  );
  const big = new SoftwareHtab({ order: 18, byteOrder: 'big' });
  expect(await big.descriptor({ write: true }).write(bytes)).toBe(0);
  bytes.set(Buffer.from('0000010200010002', 'hex'));
  expect(await big.descriptor({ write: true }).write(bytes)).toBe(24);
  expect(Buffer.from(await big.descriptor().read(4096)).toString('hex')).toBe(
    '0000000000000102' + '0000010200013efd' + '00000000091a2b410000000000021192',
  );
  expect(Buffer.from(await big.descriptor({ byteOrder: 'little' }).read(25)).toString('hex')).toBe(
    '0000000000000201',
  );
});

describe('cutting (order 24: 1048576 slots)', () => {
  test('an empty table: 17 blocks', async () => {
    const vm = new SoftwareHtab({ order: 24 });
    const { bytes, reads } = await drain(vm.descriptor(), 65536);
    expect([reads, bytes.length]).toEqual([1, 136]);
    expect(counts(bytes)).toEqual({ blocks: 17, valid: 0, invalid: 1048576 });
    const r = vm.descriptor();
    expect(await read(r, 25)).toBe('8 [0 v0 i65535]');
    expect(await read(r, 25)).toBe('8 [65535 v0 i65535]');
  });

  test('70000 entries from slot 1000 on', async () => {
    const vm = new SoftwareHtab({ order: 24, memory: MEMORY });
    const w = vm.descriptor({ write: true });
    for (let i = 0n; i < 70n; i++) {
      const bytes = block(1000 + Number(i) * 1000, run(1000, V(0x4000n + i * 1000n), R(3n)));
      expect(await w.write(bytes)).toBe(16008);
    }
    for (const [length, reads, total, blocks] of [
      [64, 23337, 1306792, 23349],
      [100, 14002, 1232120, 14015],
      [2048, 552, 1124536, 567],
      [4096, 275, 1122320, 290],
      [65536, 18, 1120264, 33],
      [1048576, 2, 1120136, 17],
      [2097152, 1, 1120136, 17],
    ] as const) {
      const r = vm.descriptor();
      const pass = await drain(r, length);
      expect([length, pass.reads, pass.bytes.length]).toEqual([length, reads, total]);
      expect(counts(pass.bytes)).toEqual({ blocks, valid: 70000, invalid: 978576 });
      await r.close();
    }
    const whole = await read(vm.descriptor(), 1 << 21);
    expect(whole.match(/\[.*?\]/g)?.slice(0, 5)).toEqual([
      '[0 v0 i1000]',
      '[1000 v65535 i0]',
      '[66535 v4465 i65535]',
      '[136535 v0 i65535]',
      '[202070 v0 i65535]',
    ]);
    const r = vm.descriptor();
    expect((await read(r, 2048)).match(/^\d+|\[.*?\]/g)).toEqual([
      '2032',
      '[0 v0 i1000]',
      '[1000 v126 i0]',
    ]);
    expect((await read(r, 2048)).match(/^\d+|\[.*?\]/g)).toEqual(['2040', '[1126 v127 i0]']);
    const largest = block(5, run(65535, V(0x9000n), R(4n)), 65535);
    expect(await w.write(largest)).toBe(1048568);
  });
});

describe('later passes, bolted entries, start index (order 18)', () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
  const w = vm.descriptor({ write: true });
  let r: SoftwareDescriptor;
  /** An entry as read returns it: V and the lock bit. */
  const entry = (avpn: number, rpn: number, flags = 0x41): string =>
    show(block(0, [[BigInt(avpn * 128 + flags), R(BigInt(rpn))]])).slice(-33);
  const all = async (length: number, ...expected: string[]): Promise<void> => {
    for (const answer of expected) expect(await read(r, length)).toBe(answer);
  };

  test('changes are reported once, in the order of slots', async () => {
    for (let i = 0; i < 16384; i += 64) await put(w, i, V(0x5000n + BigInt(i)), R(5n));
    r = vm.descriptor();
    const first = await drain(r, 4096);
    expect([first.reads, first.bytes.length]).toEqual([2, 6144]);
    expect(counts(first.bytes)).toEqual({ blocks: 256, valid: 256, invalid: 16128 });
    await all(4096, '0', '0');
    // A new entry, one in place of another, and the last slot.
    await put(w, 8000, V(0x8000n), R(6n));
    await put(w, 100, V(0x8001n), R(6n));
    await put(w, 16383, V(0x8002n), R(6n));
    const changes = `[100 v1 i0] ${entry(0x8001, 6)} [8000 v1 i0] ${entry(0x8000, 6)} [16383 v1 i0] ${entry(0x8002, 6)}`;
    await all(4096, `72 ${changes}`, '0', '0');
  });

  test('what is emptied is reported, what was empty is not; the same value again is a change', async () => {
    expect(await w.write(block(64, [], 1))).toBe(8);
    await all(4096, '8 [64 v0 i1]', '0');
    await put(w, 128, V(0x5080n), R(5n));
    await all(4096, `24 [128 v1 i0] ${entry(0x5080, 5)}`, '0');
    await w.write(block(65, [], 1));
    await all(4096, '0');
  });

  test('one entry at a time; a change behind the cursor comes after the end', async () => {
    for (const [i, slot] of [10, 12, 14].entries())
      await put(w, slot, V(0x9000n + BigInt(i)), R(7n));
    await w.write(block(5000, run(4, V(0x9100n), R(7n))));
    await all(
      25,
      `24 [10 v1 i0] ${entry(0x9000, 7)}`,
      `24 [12 v1 i0] ${entry(0x9001, 7)}`,
      `24 [14 v1 i0] ${entry(0x9002, 7)}`,
      ...[0, 1, 2, 3].map((k) => `24 [${5000 + k} v1 i0] ${entry(0x9100 + k, 7)}`),
      '0',
    );
    await all(4096, '0');
    await put(w, 200, V(0xa000n), R(8n));
    await put(w, 15000, V(0xa001n), R(8n));
    await all(25, `24 [200 v1 i0] ${entry(0xa000, 8)}`);
    await put(w, 100, V(0xa002n), R(8n));
    await put(w, 16000, V(0xa003n), R(8n));
    await all(
      25,
      `24 [15000 v1 i0] ${entry(0xa001, 8)}`,
      `24 [16000 v1 i0] ${entry(0xa003, 8)}`,
      '0',
    );
    await all(4096, `24 [100 v1 i0] ${entry(0xa002, 8)}`);
  });

  test('readers share the marks, also those of a first pass', async () => {
    const other = vm.descriptor();
    const { bytes, reads } = await drain(other, 65536);
    expect([reads, bytes.length]).toEqual([1, 6360]);
    expect(counts(bytes)).toEqual({ blocks: 263, valid: 266, invalid: 16118 });
    await put(w, 300, V(0xb000n), R(9n));
    await all(4096, `24 [300 v1 i0] ${entry(0xb000, 9)}`);
    expect(await read(other, 4096)).toBe('0');
    await other.close();
    await put(w, 301, V(0xb001n), R(9n));
    const third = vm.descriptor();
    expect((await drain(third, 65536)).bytes.length).toBe(6400);
    await all(4096, '0');
    await third.close();
  });

  test('a run of entries, and of emptied slots', async () => {
    expect(await w.write(block(400, run(2, V(0xc000n), R(10n)), 3))).toBe(40);
    await all(4096, `40 [400 v2 i0] ${entry(0xc000, 10)} ${entry(0xc001, 10)}`);
    expect(await w.write(block(400, run(1, V(0xc001n), R(10n)), 4))).toBe(24);
    await all(4096, `24 [400 v1 i1] ${entry(0xc001, 10)}`, '0');
    await r.close();
  });

  test('bolted entries only: the others count as invalid', async () => {
    const bolted = (avpn: number): string => entry(avpn, 11, 0x51);
    await put(w, 500, V(0xd000n) | 0x10n, R(11n));
    await put(w, 502, V(0xd001n) | 0x10n, R(11n));
    r = vm.descriptor({ boltedOnly: true });
    await all(
      4096,
      `56 [0 v0 i500] [500 v1 i1] ${bolted(0xd000)} [502 v1 i15881] ${bolted(0xd001)}`,
      '0',
    );
    await put(w, 504, V(0xd002n) | 0x10n, R(11n));
    await put(w, 506, V(0xd003n), R(11n));
    await all(4096, `32 [504 v1 i0] ${bolted(0xd002)} [506 v0 i1]`, '0');
    await w.write(block(500, [], 1));
    await all(4096, '8 [500 v0 i1]');
    await put(w, 502, V(0xd001n), R(11n));
    await all(4096, '8 [502 v0 i1]', '0');
    await r.close();
  });

  test.each([
    // The first read of 256 bytes: its length and headers; the rest of the first pass.
    [1n, 240, '[1 v0 i9] [10 v1 i1]', 6240, '[320 v1 i63] [384 v1 i15]'],
    [8n, 240, '[8 v0 i2] [10 v1 i1]', 6240, '[320 v1 i63] [384 v1 i15]'],
    [500n, 248, '[500 v0 i2] [502 v1 i1]', 5904, '[960 v1 i63] [1024 v1 i63]'],
    [505n, 248, '[505 v0 i1] [506 v1 i5]', 5856, '[1088 v1 i63] [1152 v1 i63]'],
    [16383n, 24, '[16383 v1 i0]', 0, ''],
    // At the end of the table or beyond: the fd is granted, the first pass is over with one read.
    ...[16384n, 16385n, 1n << 20n, 1n << 32n, (1n << 32n) + 500n, (1n << 64n) - 1n].map(
      (start) => [start, 0, '', 0, ''] as const,
    ),
  ] as const)('first pass from %i', async (startIndex, length, headers, rest, more) => {
    r = vm.descriptor({ startIndex });
    const first = (await read(r, 256)).match(/^\d+|\[.*?\]/g) ?? [];
    expect([first[0], first.slice(1, 3).join(' ')]).toEqual([String(length), headers]);
    const second = (await read(r, 65536)).match(/^\d+|\[.*?\]/g) ?? [];
    expect([second[0], second.slice(1, 3).join(' ')]).toEqual([String(rest), more]);
    await all(65536, '0');
    await put(w, 3, V(0xe000n), R(12n));
    await all(4096, `24 [3 v1 i0] ${entry(0xe000, 12)}`);
    await r.close();
  });
});

test('EFAULT in a later pass: what was taken until then is lost', async () => {
  const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
  const { w, r } = both(vm);
  expect((await drain(r, 65536)).bytes.length).toBe(8);
  for (let i = 0; i < 4; i++) await put(w, 100 + 10 * i, V(0x100n + BigInt(i)), R(1n));
  // The entry at 100 and the header after it fit; the entry at 110 does not.
  expect(await read(r, 4096, 32)).toBe('EFAULT');
  expect(await read(r, 4096)).toBe(
    '48 [120 v1 i0] 0000000000008141:0000000000001192 [130 v1 i0] 00000000000081c1:0000000000001192',
  );
  expect(await read(r, 4096)).toBe('0');
});
