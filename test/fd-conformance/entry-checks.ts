import assert from 'node:assert/strict';
import type { Check } from './backend.js';
import { R, READ, V, WRITE } from './bench.js';

const ENTER = 'kvmppc_do_h_enter, arch/powerpc/kvm/book3s_hv_rm_mmu.c, Linux 6.1';
const PAGES = 'kvmppc_hpte_page_shifts, arch/powerpc/include/asm/kvm_book3s_64.h, Linux 6.1';

/** Second doubleword with these bits of the real page number and LP. */
const LP = (bits: bigint): bigint => (bits << 12n) | 0x192n;

/** Entries: which are taken, which are refused, and what comes back. */
export const entryChecks: readonly Check[] = [
  {
    id: 'entry/taken-as-they-are',
    source: ENTER,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      const outside = 0x4000n << 12n;
      for (const [what, dw0, dw1] of [
        ['outside any memory slot', V(0xf020), outside | 0x192n],
        ['outside, I and G', V(0xf021), outside | 0x1ban],
        ['outside, I and G without M', V(0xf021), outside | 0x12an],
        ['a huge page number', V(0xf022), 0x00fffffffffff192n],
        ['PP0', V(0xf023), R(1) | (1n << 63n)],
        ['bit 59', V(0xf024), R(1) | (1n << 59n)],
        ['bits 54 and 53', V(0xf025), R(1) | 0x0060000000000000n],
        ['64 KiB page', V(0xf031) | 4n, LP(1n)],
        ['16 MiB page outside', V(0xf034) | 4n, LP(0x4000n)],
        ['1 TiB segment', V(0xf040) | (1n << 62n), R(1)],
        ['secondary PTEG', V(0xf042) | 2n, R(1)],
        ['software bits', V(0xf043) | 0x18n, R(1)],
        ['R and C clear', V(0xf044), (1n << 12n) | 2n],
      ] as const) {
        await writer.put(650, dw0, dw1);
        const reader = await vm.open({ startIndex: 650n });
        const text = await reader.read(25);
        const expected = `[650 v1 i15733] ${(dw0 | 0x40n).toString(16)}:${dw1.toString(16)}`;
        assert.equal(text, expected, what);
        await reader.close();
      }
    },
  },
  {
    id: 'entry/hypervisor-bits',
    source: ENTER,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.put(0, V(1) | 0x20n, R(1));
      await writer.put(1, V(2) | 0x40n, R(1));
      await writer.put(2, V(3) | 0x60n, R(1));
      // KVM's own "modified" mark.
      await writer.put(3, V(4), R(1) | (1n << 62n));
      const text = '[0 v4 i16380] c1:1192 141:1192 1c1:1192 241:1192';
      assert.equal(await (await vm.open(READ)).read(4096), text);
    },
  },
  {
    id: 'entry/page-size-that-is-none',
    source: PAGES,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      for (const lp of [0xffn, 0x02n, 0x04n, 0x18n, 0x28n, 0x10n, 0x13n]) {
        assert.equal(await writer.block(665, [[V(0xf035) | 4n, LP(lp)]]), 'EINVAL', `LP ${lp}`);
      }
    },
  },
  {
    id: 'entry/reserved-segment-size',
    source: `${ENTER}; kvmppc_actual_pgsz`,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      assert.equal(await writer.block(671, [[V(0xf041) | (1n << 63n), R(1)]]), 'EIO');
    },
  },
  {
    id: 'entry/page-of-16-gib-in-memory',
    source: ENTER,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      assert.equal(await writer.block(666, [[V(0xf036) | 4n, LP(3n)]]), 'EIO');
    },
  },
  {
    id: 'entry/page-larger-than-the-hosts',
    source: `${ENTER}: host_pte_size; a radix host has huge pages of 2 MiB, a hash host of 16 MiB`,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      const returned = await writer.block(660, [[V(0xf030) | 4n, LP(0n)]]);
      assert.equal(returned, bench.backend.host === 'power9-radix' ? 'EIO' : 24);
    },
  },
  {
    id: 'entry/high-bits-of-the-first-doubleword',
    source:
      'hpte_old_to_new_v and hpte_new_to_old_v, arch/powerpc/include/asm/book3s/64/mmu-hash.h, Linux 6.1',
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.put(5, 0x3ff0000000000001n | (0x12345n << 7n), R(1));
      await writer.put(6, 0x7ff0000000000001n | (0x12345n << 7n), R(1));
      const reader = await vm.open({ startIndex: 5n });
      // POWER9 keeps entries in the format of ISA 3.0, which has no room for them.
      const text = await reader.read(4096);
      const kept = bench.backend.host === 'power8';
      const low = (0x12345n << 7n) | 0x41n;
      const entry = (dw0: bigint): string => `${dw0.toString(16)}:1192`;
      const first = entry((kept ? 0x3ff0000000000000n : 0n) | low);
      const second = entry((kept ? 0x7ff0000000000000n : 0x4000000000000000n) | low);
      assert.equal(text, `[5 v2 i16377] ${first} ${second}`);
    },
  },
];
