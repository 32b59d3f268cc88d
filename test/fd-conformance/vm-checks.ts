import assert from 'node:assert/strict';
import type { Check } from './backend.js';
import { R, READ, V, WRITE } from './bench.js';

const OPEN = 'kvm_vm_ioctl_get_htab_fd, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1';

/** The fd and its VM: flags, direction, a table that is missing, radix, a vCPU that runs. */
export const vmChecks: readonly Check[] = [
  {
    id: 'fd/flags',
    source: OPEN,
    needs: ['open', 'vm'],
    async run(bench) {
      const { vm } = await bench.vm(18);
      for (const flags of [0n, 1n, 2n, 3n]) {
        const { value, errno } = await vm.open({ flags });
        assert.equal(errno, undefined, `flags ${flags}`);
        await value?.close();
      }
      for (const flags of [4n, 8n, 0x80n, 1n << 32n, (1n << 64n) - 1n]) {
        assert.equal((await vm.open({ flags })).errno, 'EINVAL', `flags ${flags}`);
      }
    },
  },
  {
    id: 'fd/direction',
    source: OPEN,
    needs: ['open', 'vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      assert.equal(await (await vm.open(WRITE)).read(4096), 'EBADF');
      assert.equal(await (await vm.open(READ)).block(0, [], 1), 'EBADF');
      assert.equal(await (await vm.open({ flags: 3n })).read(4096), 'EBADF');
    },
  },
  {
    id: 'fd/several-writers',
    source: OPEN,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const [a, b] = [await vm.open(WRITE), await vm.open(WRITE)];
      await a.put(1, V(1), R(1));
      await b.put(2, V(2), R(1));
      assert.equal(await (await vm.open(READ)).headers(4096), '[0 v0 i1] [1 v2 i16381]');
    },
  },
  {
    id: 'fd/no-table-yet',
    source: 'kvm_htab_read and kvm_htab_write, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1',
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.bareVm();
      const [writer, reader] = [await vm.open(WRITE), await vm.open(READ)];
      assert.equal(await writer.block(0, [[V(1), R(1)]]), 'EINVAL');
      assert.equal(await writer.block(0, [], 5), 'EINVAL');
      assert.equal(await reader.read(4096), '');
      assert.equal((await vm.vm.allocate(20)).value, 20);
      // No memory slot either: the entry is one of emulated I/O.
      assert.equal(await writer.block(0, [[V(1), R(1)]]), 24);
      // On a radix host the guest was radix, and a read did not get to the table.
      const radix = bench.backend.host === 'power9-radix';
      const text = radix ? '[0 v1 i65535] c1:1192' : '[0 v1 i0] c1:1192';
      assert.equal(await reader.read(4096), text, 'the reader of before');
      assert.equal(await reader.read(4096), '');
      const fresh = await vm.open(READ);
      assert.equal(await fresh.read(4096), '[0 v1 i65535] c1:1192');
    },
  },
  {
    id: 'fd/outlives-the-vm',
    source: OPEN,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const [writer, reader] = [await vm.open(WRITE), await vm.open(READ)];
      await vm.vm.close();
      await writer.put(4, V(4), R(1));
      assert.equal(await reader.read(4096), '[0 v0 i4] [4 v1 i16379] 241:1192');
    },
  },
  {
    id: 'fd/radix',
    source: 'kvm_htab_read, kvm_htab_write; kvmhv_configure_mmu of book3s_hv.c, Linux 6.1',
    needs: ['vm', 'radix'],
    async run(bench) {
      const vm = await bench.bareVm();
      assert.equal((await vm.vm.setRadix(true)).errno, undefined);
      const [writer, reader] = [await vm.open(WRITE), await vm.open(READ)];
      assert.equal(await reader.read(4096), '');
      assert.equal(await writer.block(0, [[V(1), R(1)]]), 'EINVAL');
      assert.equal(await writer.block(0, [], 5), 'EINVAL');
      assert.equal((await vm.vm.allocate(18)).value, 18, 'which makes it a hash guest');
      await writer.put(0, V(1), R(1));
      assert.equal(await reader.headers(4096), '[0 v1 i16383]', 'the same fd works now');
    },
  },
  {
    id: 'fd/running-vcpu',
    source: 'kvm_htab_write: vcpus_running, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1',
    needs: ['vm', 'vcpu'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await vm.vm.startVcpu();
      try {
        assert.equal(await writer.block(10, [[V(0x100), R(1)]]), 'EBUSY');
        assert.equal(await writer.block(10, [], 1), 'EBUSY');
        const reader = await vm.open(READ);
        assert.ok((await reader.bytes(4096)).length > 0, 'reading stays possible');
      } finally {
        await vm.vm.stopVcpu();
      }
      await writer.put(20, V(0x200), R(1));
    },
  },
  {
    id: 'fd/vcpu-makes-entries',
    source: 'kvmppc_hv_setup_htab_rma, book3s_hv.c; kvmppc_map_vrma, book3s_64_mmu_hv.c, Linux 6.1',
    needs: ['vm', 'vcpu'],
    async run(bench) {
      const vm = await bench.vm(18);
      const reader = await vm.open(READ);
      await vm.vm.startVcpu();
      await vm.vm.stopVcpu();
      // Pages of 64 KiB from the last to the first, one in slot 7 of a PTEG: 64 MiB in the upper
      // half of 2048 PTEGs. R and C are set from the start.
      const words = ['[0 v0 i8199]'];
      for (let page = 1023; page >= 0; page--) {
        const slot = 8 * (2047 - page) + 7;
        const dw0 = 0x4001ffffff000055n | (BigInt(page) & ~0x7fn);
        const dw1 = 0x1190n | (BigInt(page) << 16n);
        words.push(
          `[${slot} v1 i${page === 0 ? 0 : 7}]`,
          `${dw0.toString(16)}:${dw1.toString(16)}`,
        );
      }
      assert.equal(await reader.read(1 << 20), words.join(' '));
      assert.equal(await reader.read(1 << 20), '', 'the next pass');
    },
  },
];
