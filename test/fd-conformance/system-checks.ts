import assert from 'node:assert/strict';
import type { Check, SystemCalls } from './backend.js';
import { type Bench, R, READ, type TestVm, V, WRITE } from './bench.js';

const OPEN = 'kvm_vm_ioctl_get_htab_fd, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1';
const CAP_PPC_HTAB_FD = 84;

function calls({ backend }: Bench): SystemCalls {
  assert.ok(backend.system);
  return backend.system;
}

function vmNumber({ vm }: TestVm): number {
  assert.ok(vm.number !== undefined);
  return vm.number;
}

/** The ioctl, and what other system calls do to its fd: on a real kernel only. */
export const systemChecks: readonly Check[] = [
  {
    id: 'system/ioctl-number',
    source: 'arch/powerpc/include/uapi/asm/ioctl.h; include/uapi/linux/kvm.h, Linux 6.1',
    needs: ['system'],
    async run(bench) {
      const probe = calls(bench).probe();
      assert.equal(probe.errno, 0, 'opening /dev/kvm');
      assert.equal(probe.ioctl, 0x8020aeaa);
    },
  },
  {
    id: 'system/capability',
    source: 'kvm_vm_ioctl_check_extension, arch/powerpc/kvm/powerpc.c, Linux 6.1',
    needs: ['system'],
    async run(bench) {
      assert.equal(calls(bench).probe().extension, 1, 'of the system');
      const vm = vmNumber(await bench.vm(18));
      assert.equal(calls(bench).checkExtension(vm, CAP_PPC_HTAB_FD).value, 1, 'of the VM');
    },
  },
  {
    id: 'system/reserved-is-ignored',
    source: OPEN,
    needs: ['system'],
    async run(bench) {
      const system = calls(bench);
      const vm = vmNumber(await bench.vm(18));
      for (const reserved of [
        [1n, 0n],
        [0n, (1n << 64n) - 1n],
      ] as const) {
        const { value } = system.getHtabFd(vm, reserved);
        assert.ok(value !== undefined);
        system.close(value);
      }
    },
  },
  {
    id: 'system/bad-pointer',
    source: 'kvm_arch_vm_ioctl_hv, arch/powerpc/kvm/book3s_hv.c, Linux 6.1',
    needs: ['system'],
    async run(bench) {
      const vm = vmNumber(await bench.vm(18));
      assert.equal(calls(bench).getHtabFd(vm, 'bad pointer').errno, 'EFAULT');
    },
  },
  {
    id: 'system/kind-of-file',
    source: `${OPEN}: anon_inode_getfd`,
    needs: ['system'],
    async run(bench) {
      const system = calls(bench);
      const vm = await bench.vm(18);
      const [reader, writer] = [await vm.open(READ), await vm.open(WRITE)];
      const [r, w] = [reader.fd.number ?? -1, writer.fd.number ?? -1];
      assert.equal(system.link(r), 'anon_inode:kvm-htab');
      assert.equal(system.link(w), 'anon_inode:kvm-htab');
      assert.equal(system.statusFlags(r) & 3, 0, 'O_RDONLY');
      assert.equal(system.statusFlags(w) & 3, 1, 'O_WRONLY');
      assert.equal(system.descriptorFlags(r), 1, 'FD_CLOEXEC');
    },
  },
  {
    id: 'system/positions',
    source: `${OPEN}: kvm_htab_fops has default_llseek, the file no FMODE_PREAD`,
    needs: ['system'],
    async run(bench) {
      const system = calls(bench);
      const vm = await bench.vm(18);
      const reader = await vm.open(READ);
      const fd = reader.fd.number ?? -1;
      assert.equal(system.pread(fd, 4096, 500).errno, 'ESPIPE');
      assert.equal(system.lseek(fd, 100).value, 100);
      assert.equal(await reader.headers(4096), '[0 v0 i16384]', 'nothing comes of it');
    },
  },
  {
    id: 'system/unaligned-memory',
    source: 'kvm_htab_write: __get_user, arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1',
    needs: ['system'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      const block = bench.block(690, [[V(0xf050), R(1)]]);
      for (const at of [1, 2, 3, 5]) {
        const bytes = Buffer.concat([Buffer.alloc(at), block]).subarray(at);
        assert.equal(await writer.write(bytes), 24);
        // Where memory ends behind the block, it begins at an odd place.
        assert.equal(await writer.write(Buffer.concat([block, Buffer.alloc(at)]), 24), 24);
      }
    },
  },
  {
    id: 'system/vm-belongs-to-its-process',
    source: 'kvm_vm_ioctl: kvm->mm, virt/kvm/kvm_main.c, Linux 6.1',
    needs: ['system'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.put(5, V(5), R(1));
      const number = vmNumber(vm);
      // One that it inherits, and one that it takes while we have it.
      const fds = [{ fd: 3 }, { fd: number, of: 'parent' }] as const;
      const asked = fds.flatMap((which) => [
        { ...which, call: 'getHtabFd' as const },
        { ...which, call: 'checkExtension' as const, extension: CAP_PPC_HTAB_FD },
        { ...which, call: 'allocate' as const, order: 18 },
      ]);
      const answers = await calls(bench).inChild([number], asked);
      assert.deepEqual(answers, Array(6).fill('EIO'));
      assert.equal(calls(bench).checkExtension(number, CAP_PPC_HTAB_FD).value, 1, 'still ours');
      const left = await (await vm.open(READ)).headers(4096);
      assert.equal(left, '[0 v0 i5] [5 v1 i16378]', 'no other table was allocated');
    },
  },
  {
    id: 'system/fd-can-be-handed-over',
    source: OPEN,
    needs: ['system'],
    async run(bench) {
      const vm = await bench.vm(18);
      const [reader, writer] = [await vm.open(READ), await vm.open(WRITE)];
      await writer.put(1, V(1), R(1));
      const fds = [reader.fd.number ?? -1, writer.fd.number ?? -1];
      const hex = bench.block(3, [[V(3), R(1)]]).toString('hex');
      const answers = await calls(bench).inChild(fds, [
        { call: 'read', fd: 3, length: 4096 },
        { call: 'write', fd: 4, hex },
      ]);
      const first = bench.text(Buffer.from(answers[0] ?? '', 'hex'));
      assert.equal(first, '[0 v0 i1] [1 v1 i16382] c1:1192');
      assert.equal(answers[1], '24');
      assert.equal(await reader.headers(4096), '[3 v1 i0]', 'both have one position');
    },
  },
];
