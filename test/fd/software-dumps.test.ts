import { describe, expect, test } from 'vitest';
import type { SoftwareDescriptor } from '../../src/fd/software/descriptor.js';
import { SoftwareHtab } from '../../src/fd/software/vm.js';
import { fixture, load } from '../helpers/fixtures.js';
import { block, drain, MEMORY } from './software-support.js';

const dump = (name: string): Buffer => load(fixture(`kvm/p8-many${name}.gz`));

/** xorshift64, by which the capture chose what to write. */
class Random {
  #state = 0x9e3779b97f4a7c15n;

  next(): bigint {
    let x = this.#state;
    x = BigInt.asUintN(64, x ^ (x << 13n));
    x ^= x >> 7n;
    x = BigInt.asUintN(64, x ^ (x << 17n));
    this.#state = x;
    return x;
  }

  below(n: number): number {
    return Number(this.next() % BigInt(n));
  }
}

/** What was written: runs of 1 to 12 entries and gaps, now and then longer ones. */
function* written(random: Random): Generator<Buffer> {
  for (let index = 0, entries = 0; index < 1048576 - 40 && entries < 100000; ) {
    let nValid = 1 + random.below(12);
    let nInvalid = random.below(120);
    if (random.below(50) === 0) nValid = 200 + random.below(600);
    if (random.below(200) === 0) nInvalid = 2000 + random.below(9000);
    if (index + nValid + nInvalid > 1048576) return;
    const list = Array.from({ length: nValid }, (): [bigint, bigint] => {
      let dw0 = ((random.next() & 0x3ffffffffffn) << 7n) | 1n;
      if (random.below(16) === 0) dw0 |= 0x10n;
      if (random.below(4) === 0) dw0 |= 0x4000000000000000n;
      let dw1 = BigInt(random.below(16384)) << 12n;
      dw1 |= 0x10n | (random.next() & 0x180n) | BigInt(random.below(4));
      if (random.below(8) === 0) {
        dw0 |= 4n;
        dw1 = (BigInt(random.below(1024)) << 16n) | 0x1012n | (random.next() & 0x180n);
      }
      return [dw0, dw1];
    });
    yield block(index, list, nInvalid);
    entries += nValid;
    index += nValid + nInvalid;
  }
}

/** 500 changes of single entries and short runs. */
async function change(fd: SoftwareDescriptor, random: Random): Promise<void> {
  for (let k = 0; k < 500; k++) {
    const index = random.below(1048576);
    if (random.below(3) !== 0) {
      const dw0 = ((random.next() & 0x3ffffffffffn) << 7n) | 1n;
      const dw1 = (BigInt(random.below(16384)) << 12n) | 0x192n;
      await fd.write(block(index, [[dw0, dw1]]));
    } else {
      const nInvalid = 1 + random.below(4);
      if (index < 1048570) await fd.write(block(index, [], nInvalid));
    }
  }
}

/*
 * kvm-hv of Linux 6.1 on POWER8: what was written to the HTAB fd of an order-24 table, and what was
 * read from it afterwards (fixtures/manifest.json).
 */
describe('what the kernel was given, and gave', () => {
  test.each(['documented', 'kernel'] as const)('%s', async (blocksPerWrite) => {
    const vm = new SoftwareHtab({ order: 24, memory: MEMORY, blocksPerWrite });
    const w = vm.descriptor({ write: true });
    const random = new Random();
    const blocks = [...written(random)];
    expect(Buffer.concat(blocks).equals(dump('.written'))).toBe(true);
    for (const one of blocks) expect(await w.write(one)).toBe(one.length);
    for (const [length, reads] of [
      [2048, 815],
      [65536, 26],
      [1048576, 2],
    ] as const) {
      const r = vm.descriptor();
      const pass = await drain(r, length);
      expect(pass.reads).toBe(reads);
      if (length === 65536) expect(pass.bytes.length).toBe(1654560);
      else expect(pass.bytes.equals(dump(`-r${length}.htab`))).toBe(true);
      if (length === 1048576) {
        await change(w, random);
        const delta = await drain(r, 4096);
        expect(delta.reads).toBe(2);
        expect(delta.bytes.equals(dump('-delta.htab'))).toBe(true);
      }
      await r.close();
    }
    const after = await drain(vm.descriptor(), 65536);
    expect(after.bytes.equals(dump('-after.htab'))).toBe(true);
    const bolted = await drain(vm.descriptor({ boltedOnly: true }), 65536);
    expect(bolted.bytes.equals(dump('-bolted.htab'))).toBe(true);
  });

  test('whole files in one write each', async () => {
    const vm = new SoftwareHtab({ order: 24, memory: MEMORY });
    const w = vm.descriptor({ write: true });
    const all = dump('.written');
    expect(await w.write(all)).toBe(all.length);
    expect((await drain(vm.descriptor(), 2048)).bytes.equals(dump('-r2048.htab'))).toBe(true);
  });

  // Two guests of their own, stopped: their order is 22, and reads were of 1 MiB.
  test.each([
    ['h8-guest', 'power8'],
    ['l9dis-guest', 'power9-hash'],
  ] as const)('%s', async (name, host) => {
    const memory = [{ base: 0n, size: 512n << 20n }];
    const vm = new SoftwareHtab({ order: 22, memory, host });
    const w = vm.descriptor({ write: true });
    const full = load(fixture(`kvm/${name}.htab.gz`));
    const written = await w.writeBlocks(full);
    expect(written).toMatchObject({ bytes: full.length, errno: undefined });
    expect((await drain(vm.descriptor(), 1048576)).bytes.equals(full)).toBe(true);
    const bolted = await drain(vm.descriptor({ boltedOnly: true }), 1048576);
    expect(bolted.bytes.equals(load(fixture(`kvm/${name}.bolted.gz`)))).toBe(true);
  });
});
