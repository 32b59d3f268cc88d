import assert from 'node:assert/strict';
import type { Check } from './backend.js';
import { type Bench, BOLTED, R, READ, run, type TestFd, type TestVm, V, WRITE } from './bench.js';

const READ_SIDE = 'kvm_htab_read, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1';
const RECORD = 'record_hpte, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1';
const NOTE = 'note_hpte_modification, arch/powerpc/include/asm/kvm_book3s_64.h, Linux 6.1';

/** A table whose first pass was read. */
async function settled(bench: Bench): Promise<{ vm: TestVm; writer: TestFd; reader: TestFd }> {
  const vm = await bench.vm(18);
  const writer = await vm.open(WRITE);
  const reader = await vm.open(READ);
  await reader.drain(65536);
  return { vm, writer, reader };
}

/** Passes after the first: what counts as a change, and who is told. */
export const passChecks: readonly Check[] = [
  {
    id: 'passes/only-what-changed',
    source: READ_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      assert.equal(await reader.read(4096), '');
      await writer.put(8000, V(0x8000), R(6));
      await writer.put(100, V(0x8001), R(6));
      await writer.put(16383, V(0x8002), R(6));
      const text = '[100 v1 i0] 4000c1:6192 [8000 v1 i0] 400041:6192 [16383 v1 i0] 400141:6192';
      assert.equal(await reader.read(4096), text, 'in the order of their slots');
      assert.equal(await reader.read(4096), '');
      assert.equal(await reader.read(4096), '');
    },
  },
  {
    id: 'passes/emptied-slot',
    source: RECORD,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      await writer.put(64, V(0x5000), R(5));
      assert.equal(await reader.headers(4096), '[64 v1 i0]');
      assert.equal(await writer.block(64, [], 1), 8);
      assert.equal(await reader.read(4096), '[64 v0 i1]');
      assert.equal(await writer.block(64, [], 1), 8);
      assert.equal(await reader.read(4096), '', 'an empty slot that is emptied did not change');
    },
  },
  {
    id: 'passes/same-value-counts',
    source:
      'kvm_htab_write removes and enters anew, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1',
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      await writer.put(128, V(0x5080), R(5));
      await reader.read(4096);
      await writer.put(128, V(0x5080), R(5));
      assert.equal(await reader.read(4096), '[128 v1 i0] 284041:5192');
    },
  },
  {
    id: 'passes/behind-the-cursor',
    source: READ_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      await writer.put(200, V(0xa000), R(8));
      await writer.put(15000, V(0xa001), R(8));
      assert.equal(await reader.headers(25), '[200 v1 i0]');
      await writer.put(100, V(0xa002), R(8));
      await writer.put(16000, V(0xa003), R(8));
      assert.equal(await reader.headers(25), '[15000 v1 i0]');
      assert.equal(await reader.headers(25), '[16000 v1 i0]');
      assert.equal(await reader.headers(25), '', 'nothing from the cursor to the end');
      assert.equal(await reader.headers(4096), '[100 v1 i0]');
    },
  },
  {
    id: 'passes/small-buffers',
    source: READ_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      for (const slot of [10, 12, 14]) await writer.put(slot, V(0x9000 + slot), R(7));
      await writer.block(5000, run(4, V(0x9100), R(7)));
      const slots: string[] = [];
      for (let text = await reader.headers(25); text !== ''; text = await reader.headers(25)) {
        slots.push(text);
      }
      const expected = [10, 12, 14, 5000, 5001, 5002, 5003].map((slot) => `[${slot} v1 i0]`);
      assert.deepEqual(slots, expected);
    },
  },
  {
    id: 'passes/too-small-a-read-changes-nothing',
    source: READ_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      await writer.put(10, V(1), R(7));
      assert.equal(await reader.read(24), '');
      assert.equal(await reader.headers(4096), '[10 v1 i0]');
    },
  },
  {
    id: 'passes/mixed-block',
    source: RECORD,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      assert.equal(await writer.block(400, run(2, V(0xc000), R(10)), 3), 40);
      assert.equal(await reader.headers(4096), '[400 v2 i0]');
      assert.equal(await writer.block(400, run(1, V(0xc001), R(10)), 4), 24);
      assert.equal(await reader.read(4096), '[400 v1 i1] 6000c1:a192');
      assert.equal(await reader.read(4096), '');
    },
  },
  {
    id: 'passes/marks-are-shared',
    source: RECORD,
    needs: ['vm'],
    async run(bench) {
      const { vm, writer, reader } = await settled(bench);
      const other = await vm.open(READ);
      await other.drain(65536);
      await writer.put(300, V(0xb000), R(9));
      assert.equal(await reader.headers(4096), '[300 v1 i0]');
      assert.equal(await other.read(4096), '', 'the other fd told it');
      await writer.put(301, V(0xb001), R(9));
      const first = await vm.open(READ);
      await first.drain(65536);
      assert.equal(await reader.read(4096), '', 'a first pass clears the marks too');
    },
  },
  {
    id: 'passes/no-marks-without-a-reader',
    source: NOTE,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.put(5, V(1), R(1));
      // Opened behind the last slot, so that there is no first pass that clears marks.
      const reader = await vm.open({ startIndex: 16384n });
      assert.equal(await reader.read(4096), '');
      assert.equal(
        await reader.read(4096),
        '',
        'changes from before the first reader are not marked',
      );
      await writer.put(6, V(1), R(1));
      assert.equal(await reader.headers(4096), '[6 v1 i0]');
      await writer.put(7, V(1), R(1));
      await reader.close();
      await writer.put(8, V(1), R(1));
      const later = await vm.open({ startIndex: 16384n });
      assert.equal(await later.read(4096), '');
      assert.equal(await later.headers(4096), '[7 v1 i0]', 'marks outlive the reader');
    },
  },
  {
    id: 'passes/bolted-only',
    source: RECORD,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.put(500, V(0xd000) | 0x10n, R(11));
      await writer.put(502, V(0xd001) | 0x10n, R(11));
      const reader = await vm.open(BOLTED);
      await reader.drain(4096);
      await writer.put(504, V(0xd002) | 0x10n, R(11));
      await writer.put(506, V(0xd003), R(11));
      assert.equal(await reader.read(4096), '[504 v1 i0] 680151:b192 [506 v0 i1]');
      assert.equal(await reader.read(4096), '');
      await writer.block(500, [], 1);
      assert.equal(await reader.read(4096), '[500 v0 i1]');
      await writer.put(502, V(0xd001), R(11));
      assert.equal(await reader.read(4096), '[502 v0 i1]', 'unbolted');
      assert.equal(await reader.read(4096), '');
    },
  },
  {
    id: 'passes/fault-in-the-first-pass',
    source: READ_SIDE,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.block(0, run(3, V(0x1000), R(1)));
      const reader = await vm.open(READ);
      assert.equal(await reader.read(4096, 32), 'EFAULT');
      assert.equal(await reader.headers(4096), '[0 v3 i16381]', 'the cursor did not move');
    },
  },
  {
    id: 'passes/fault-loses-changes',
    source: READ_SIDE,
    needs: ['vm'],
    async run(bench) {
      const { writer, reader } = await settled(bench);
      for (let i = 0; i < 4; i++) await writer.put(100 + 10 * i, V(0x100 + i), R(1));
      assert.equal(await reader.read(4096, 32), 'EFAULT');
      assert.equal(await reader.headers(4096), '[120 v1 i0] [130 v1 i0]');
      assert.equal(await reader.headers(4096), '');
    },
  },
  {
    id: 'passes/allocate-again',
    source: 'kvmppc_alloc_reset_hpt, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1',
    needs: ['vm'],
    async run(bench) {
      const { vm, writer, reader } = await settled(bench);
      await writer.put(100, V(1), R(1));
      await writer.put(200, V(1), R(1));
      assert.equal(await reader.headers(25), '[100 v1 i0]');
      assert.equal((await vm.vm.allocate(18)).value, 18);
      // The table is empty; marks stay, and so does the cursor.
      assert.equal(await reader.headers(4096), '[200 v0 i1]');
      assert.equal(await reader.headers(4096), '');
      assert.equal(await (await vm.open(READ)).headers(4096), '[0 v0 i16384]');
    },
  },
];
