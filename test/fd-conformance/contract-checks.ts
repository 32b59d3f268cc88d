import assert from 'node:assert/strict';
import { BlockBatch, HtabWriteError } from '../../src/index.js';
import type { Check } from './backend.js';
import { type Bench, BOLTED, R, READ, run, V, WRITE } from './bench.js';

const CONTRACT = 'src/fd/htab-fd.ts: what every backend promises';

function batch(bench: Bench, ...blocks: Buffer[]): BlockBatch {
  const order = bench.little ? 'little' : 'big';
  return new BlockBatch(Buffer.concat(blocks), order, blocks.length, 0);
}

/** The fd as the package gives it: passes and whole blocks, the same on every backend. */
export const contractChecks: readonly Check[] = [
  {
    id: 'contract/first-pass',
    source: CONTRACT,
    needs: ['open'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.block(0, run(3, V(0x1000), R(1)));
      await writer.block(100, run(5, V(0x2000) | 0x10n, R(2)));
      const whole = '[0 v3 i97] [100 v5 i16279]';
      assert.deepEqual(await (await vm.open(READ)).passes({ max: 2 }), [whole, '']);
      assert.deepEqual(await (await vm.open(READ)).passes({ untilQuiet: true }), [whole]);
      const cut = '[0 v3 i97] [100 v2 i0] [102 v3 i16279]';
      const small = { max: 1, bufferBytes: 100 };
      assert.deepEqual(await (await vm.open(READ)).passes(small), [cut]);
      const bolted = '[0 v0 i100] [100 v5 i16279]';
      assert.deepEqual(await (await vm.open(BOLTED)).passes({ max: 1 }), [bolted]);
    },
  },
  {
    id: 'contract/later-passes',
    source: CONTRACT,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      const reader = await vm.open(READ);
      assert.deepEqual(await reader.passes({ max: 1 }), ['[0 v0 i16384]']);
      await writer.put(7, V(7), R(1));
      await writer.put(9000, V(9), R(1));
      assert.deepEqual(await reader.passes({ untilQuiet: true }), ['[7 v1 i0] [9000 v1 i0]']);
      assert.deepEqual(await reader.passes({ untilQuiet: true }), []);
      assert.deepEqual(await reader.passes({ max: 1 }), ['']);
    },
  },
  {
    id: 'contract/a-pass-ends-where-the-kernel-begins-again',
    source: CONTRACT,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      const reader = await vm.open(READ);
      // No read of nothing comes between: something changes after every read.
      const passes: string[] = [];
      let slot = 20;
      for await (const pass of reader.fd.htabFd.passes({ max: 4 })) {
        const headers: string[] = [];
        for await (const { bytes } of pass) {
          headers.push(bench.text(bytes).replace(/ [0-9a-f]+:[0-9a-f]+/g, ''));
          slot -= 2;
          if (slot > 10) await writer.put(slot, V(slot), R(1));
        }
        passes.push(headers.join(' '));
      }
      assert.deepEqual(passes, ['[0 v0 i16384]', '[18 v1 i0]', '[16 v1 i0]', '[14 v1 i0]']);
    },
  },
  {
    id: 'contract/a-pass-that-is-left-early-goes-on',
    source: CONTRACT,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      await writer.put(5000, V(5), R(1));
      const reader = await vm.open(READ);
      const { htabFd } = reader.fd;
      for await (const _ of htabFd.pass({ bufferBytes: 25 })) break;
      await writer.put(3, V(3), R(1));
      assert.deepEqual(await reader.passes({ max: 2 }), ['[5000 v1 i11383]', '[3 v1 i0]']);
    },
  },
  {
    id: 'contract/blocks-one-by-one',
    source: CONTRACT,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      const blocks = [
        bench.block(0, run(2, V(1), R(1)), 3),
        bench.block(50, [], 7),
        bench.block(100, run(1, V(3), R(1))),
      ];
      const applied = await writer.fd.htabFd.apply(batch(bench, ...blocks));
      assert.deepEqual(applied, { blocks: 3, valid: 3, invalid: 10, bytes: 72 });
      const text = await (await vm.open(READ)).headers(4096);
      assert.equal(text, '[0 v2 i98] [100 v1 i16283]');
    },
  },
  {
    id: 'contract/a-refused-block-is-named',
    source: CONTRACT,
    needs: ['vm'],
    async run(bench) {
      const vm = await bench.vm(18);
      const writer = await vm.open(WRITE);
      const [a, b] = run(2, V(0x20), R(1));
      assert.ok(a && b);
      for (const [errno, refused, left] of [
        ['EINVAL', bench.block(200, [a, [b[0] & ~1n, b[1]]], 1), '[0 v2 i198] [200 v1 i16183]'],
        ['EINVAL', bench.block(16384, [a]), '[0 v2 i198] [200 v1 i16183]'],
        ['EIO', bench.block(200, [[V(1) | (1n << 63n), R(1)]]), '[0 v2 i16382]'],
      ] as const) {
        const good = bench.block(0, run(2, V(1), R(1)));
        const never = bench.block(300, [a]);
        const error = await writer.fd.htabFd.apply(batch(bench, good, refused, never)).then(
          () => undefined,
          (failure: unknown) => failure,
        );
        assert.ok(error instanceof HtabWriteError, errno);
        assert.equal(error.errno, errno);
        assert.equal(error.offset, 40);
        assert.deepEqual(error.applied, { blocks: 1, valid: 2, invalid: 0, bytes: 40 });
        assert.equal(await (await vm.open(READ)).headers(4096), left, 'the third is not written');
      }
    },
  },
  {
    id: 'contract/order-of-the-table',
    source: CONTRACT,
    needs: ['vm'],
    async run(bench) {
      for (const order of [18, 19, 22]) {
        const vm = await bench.vm(order);
        const writer = await vm.open(WRITE);
        assert.equal(await writer.fd.htabFd.order(), order);
        const slots = 2 ** (order - 4);
        const reader = await vm.open(READ);
        const [text = ''] = await reader.passes({ max: 1 });
        const covered = [...text.matchAll(/i(\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0);
        assert.equal(covered, slots, 'nothing was written');
      }
      const writer = await (await bench.bareVm()).open(WRITE);
      assert.equal(await writer.fd.htabFd.order(), undefined);
    },
  },
];
