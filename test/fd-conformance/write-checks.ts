import assert from 'node:assert/strict';
import type { Check } from './backend.js';
import { type Bench, R, READ, run, type TestFd, type TestVm, V, WRITE } from './bench.js';

const WRITE_SIDE = 'kvm_htab_write, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1';

/** An order-18 table with a reader that has seen it. */
async function watched(bench: Bench): Promise<{ vm: TestVm; writer: TestFd; reader: TestFd }> {
  const vm = await bench.vm(18);
  const writer = await vm.open(WRITE);
  const reader = await vm.open(READ);
  await reader.drain(65536);
  return { vm, writer, reader };
}

/** Writes: whole blocks, several blocks, and blocks that are refused. */
export const writeChecks: readonly Check[] = [
  {
    id: 'write/range',
    source: WRITE_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      const one = run(1, V(0xf000), R(1));
      for (const [index, entries, nInvalid] of [
        [16383, run(2, V(0xf000), R(1)), 0],
        [16384, one, 0],
        [16384, [], 0],
        [0xffffffff, [], 0],
        [0xffffffff, [], 2],
        [16380, one, 4],
      ] as const) {
        assert.equal(await writer.block(index, entries, nInvalid), 'EINVAL', `block at ${index}`);
        assert.equal(await reader.read(4096), '', 'nothing is written');
      }
      assert.equal(await writer.block(16380, one, 3), 24, 'up to the exact end');
      assert.equal(await writer.block(600, [], 0), 8, 'a block of nothing');
      assert.equal(await reader.headers(4096), '[16380 v1 i0]');
    },
  },
  {
    id: 'write/entry-without-v',
    source: WRITE_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      assert.equal(await writer.block(630, [[V(0xf010) & ~1n, R(1)]]), 'EINVAL');
      assert.equal(await writer.block(631, [[0n, 0n]]), 'EINVAL');
      assert.equal(await writer.block(677, [[(V(0xf047) & ~1n) | 0x20n, R(1)]]), 'EINVAL');
      assert.equal(await reader.read(4096), '');
      const [a, b, c] = run(3, V(0xf011), R(1));
      assert.ok(a && b && c);
      assert.equal(await writer.block(632, [a, [b[0] & ~1n, b[1]], c]), 'EINVAL');
      assert.equal(await reader.headers(4096), '[632 v1 i0]', 'the entries before it stay written');
      assert.equal(await writer.block(640, [a, b, [0n, 0n]], 2), 'EINVAL');
      assert.equal(await reader.headers(4096), '[640 v2 i0]');
    },
  },
  {
    id: 'write/refused-entry-empties-its-slot',
    source: `${WRITE_SIDE}: what is in the slot is removed before the new entry is entered`,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      await writer.put(700, V(0x1), R(1));
      await reader.read(4096);
      // A reserved segment size is found out when the entry is entered: too late for the old one.
      assert.equal(await writer.block(700, [[V(0xf041) | (1n << 63n), R(1)]]), 'EIO');
      assert.equal(await reader.read(4096), '[700 v0 i1]');
      // Without V it is found out before.
      await writer.put(700, V(0x1), R(1));
      await reader.read(4096);
      assert.equal(await writer.block(700, [[0n, R(1)]]), 'EINVAL');
      assert.equal(await reader.read(4096), '');
    },
  },
  {
    id: 'write/several-blocks-documented',
    source: 'Documentation/virt/kvm/api.rst 4.78 KVM_PPC_GET_HTAB_FD',
    needs: ['vm', 'documented-writes'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      const two = [bench.block(620, run(1, V(1), R(1))), bench.block(640, run(2, V(2), R(1)), 1)];
      assert.equal(await writer.write(Buffer.concat(two)), 64);
      assert.equal(await reader.headers(4096), '[620 v1 i0] [640 v2 i0]');
      const cut = Buffer.concat(two).subarray(0, 60);
      assert.equal(await writer.write(cut), 24, 'a part of a block is not taken');
      assert.equal(await reader.headers(4096), '[620 v1 i0]');
      assert.equal(await writer.write(cut.subarray(0, 16)), 0);
      assert.equal(await reader.headers(4096), '');
    },
  },
  {
    id: 'write/blocks-without-entries-chain',
    source: WRITE_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      for (const slot of [16, 32, 48, 64]) await writer.put(slot, V(slot), R(5));
      await reader.read(4096);
      const three = [16, 32, 48].map((slot) => bench.block(slot, [], 1));
      assert.equal(await writer.write(Buffer.concat(three)), 24);
      assert.equal(await reader.headers(4096), '[16 v0 i1] [32 v0 i1] [48 v0 i1]');
      const mixed = [bench.block(64, [], 1), bench.block(81, run(1, V(9), R(9)))];
      assert.equal(await writer.write(Buffer.concat(mixed)), 32);
      assert.equal(await reader.headers(4096), '[64 v0 i1] [81 v1 i0]');
    },
  },
  {
    id: 'write/second-block-is-dropped',
    source: `${WRITE_SIDE}: the pointer to the buffer is not moved past the entries`,
    needs: ['vm', 'kernel-writes'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      const first = bench.block(620, run(1, V(0xf004), R(1)));
      const second = bench.block(640, run(1, V(0xf005), R(1)));
      // Its next header is the entry: 256 times too many entries for what is left.
      assert.equal(await writer.write(Buffer.concat([first, second])), 24);
      assert.equal(await reader.headers(4096), '[620 v1 i0]');
      for (const stray of [1, 4, 8]) {
        assert.equal(await writer.write(Buffer.concat([first, second.subarray(0, stray)])), 24);
        assert.equal(await reader.headers(4096), '[620 v1 i0]');
      }
    },
  },
  {
    id: 'write/entry-read-as-a-header',
    source: `${WRITE_SIDE}: the pointer to the buffer is not moved past the entries`,
    needs: ['vm', 'kernel-writes', 'little-endian'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      for (let slot = 0; slot < 256; slot += 16) await writer.put(slot, V(0x5000 + slot), R(5));
      await reader.read(65536);
      // The bytes of 0x…01 are a header: index 0, 0 valid, 256 invalid.
      const block = bench.block(113, [[1n, R(9)]]);
      assert.equal(await writer.write(Buffer.concat([block, Buffer.alloc(8)])), 32);
      const emptied = Array.from({ length: 16 }, (_, i) =>
        i === 7 ? '[112 v0 i2]' : `[${i * 16} v0 i1]`,
      );
      assert.equal(await reader.headers(65536), emptied.join(' '));
    },
  },
  {
    id: 'write/length-check-leaves-out-the-header',
    source: WRITE_SIDE,
    needs: ['vm', 'kernel-writes'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      const one = bench.block(600, run(1, V(0xf002), R(1)));
      const two = bench.block(610, run(2, V(0xf003), R(1)), 1);
      for (const [bytes, count, returned] of [
        [one, 0, 0],
        [one, 7, 0],
        [one, 8, 0],
        [one, 15, 0],
        [one, 16, 24],
        [one, 23, 24],
        [two, 24, 0],
        [two, 31, 0],
        [two, 32, 40],
        [two, 39, 40],
      ] as const) {
        assert.equal(await writer.write(bytes, count), returned, `${count} of ${bytes.length}`);
        const text = await reader.headers(4096);
        assert.equal(text, returned === 0 ? '' : returned === 24 ? '[600 v1 i0]' : '[610 v2 i0]');
      }
    },
  },
  {
    id: 'write/bad-memory',
    source: WRITE_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      // No memory at all, and memory that ends within the header.
      assert.equal(await writer.write(new Uint8Array(), 24), 'EFAULT');
      assert.equal(await writer.write(bench.block(600, []).subarray(0, 4), 8), 'EFAULT');
      assert.equal(await reader.read(4096), '');
      // Memory that ends within the second entry: the first stays written.
      const two = bench.block(610, run(2, V(0xf003), R(1)));
      assert.equal(await writer.write(two.subarray(0, 32), 40), 'EFAULT');
      assert.equal(await reader.headers(4096), '[610 v1 i0]');
    },
  },
  {
    id: 'write/longest-block',
    source: WRITE_SIDE,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(24);
      const writer = await vm.open(WRITE);
      const entries = run(65535, V(0x9000), R(4));
      assert.equal(await writer.block(5, entries, 65535), 1048568);
      const text = await (await vm.open(READ)).headers(1 << 21);
      assert.match(text, /^\[0 v0 i5\] \[5 v65535 i65535\]/);
    },
  },
  {
    id: 'write/big-endian-header',
    source: `${WRITE_SIDE}: the header is read as the host's words`,
    needs: ['vm', 'little-endian'],
    async run(bench) {
      const { writer, reader } = await watched(bench);
      const bytes = bench.block(0, run(1, V(0x77), R(0x22)));
      bytes.writeUInt32BE(0x200, 0);
      bytes.writeUInt16BE(1, 4);
      // 256 entries, which do not fit.
      assert.equal(await writer.write(bytes), 0);
      assert.equal(await reader.read(4096), '');
    },
  },
  {
    id: 'write/start-index-is-ignored',
    source: 'kvm_vm_ioctl_get_htab_fd, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1',
    needs: ['vm'],
    async run(bench) {
      const { vm, reader } = await watched(bench);
      const writer = await vm.open({ flags: 2n, startIndex: 700n });
      await writer.put(900, V(0xe100), R(13));
      assert.equal(await reader.headers(4096), '[900 v1 i0]');
    },
  },
];
