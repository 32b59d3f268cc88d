import { describe, expect, test } from 'vitest';
import {
  BufferSource,
  capture,
  HashPageTable,
  type HtabFd,
  openHpt,
  restore,
  SoftwareHtab,
} from '../../src/index.js';
import { fixture, fixturesOf, load } from '../helpers/fixtures.js';
import { scratchFile } from '../helpers/sources.js';
import { blocks } from './scripted.js';

const written = (htab: SoftwareHtab): HtabFd => htab.open({ write: true });

async function dumpOf(htab: SoftwareHtab): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const write = async (bytes: Uint8Array): Promise<void> => {
    pieces.push(Buffer.from(bytes));
  };
  await using fd = htab.open();
  await capture(fd, { write }, { to: 'kernel', bufferBytes: 1 << 20 });
  return Buffer.concat(pieces);
}

const source = (bytes: Uint8Array): BufferSource => new BufferSource(bytes);

describe('an HPT that was read from a kernel goes into a VM and comes back', () => {
  test.each(['kvm/h8-guest.htab.gz', 'kvm/l9dis-guest.htab.gz'])('%s', async (file) => {
    const htab = new SoftwareHtab({ order: 22 });
    const bytes = load(fixture(file));
    await using fd = written(htab);
    const done = await restore(source(bytes), fd);
    expect(done).toMatchObject({ from: 'kernel', order: 22, bytes: bytes.length });
    expect(done.valid * 16 + done.blocks * 8).toBe(bytes.length);
    expect((await dumpOf(htab)).equals(bytes)).toBe(true);
  });
});

describe('snapshots of every guest with an HPT', () => {
  test.each(fixturesOf('snapshot').map(({ file, order }) => ({ file, order })))(
    '$file',
    async ({ file, order }) => {
      const bytes = load(fixture(file));
      const htab = new SoftwareHtab({ order: order ?? 18 });
      await using fd = written(htab);
      if (order === null) {
        await expect(restore(source(bytes), fd)).rejects.toMatchObject({ code: 'E_NO_HPT' });
        return;
      }
      const done = await restore(source(bytes), fd, { canonical: true });
      expect(done).toMatchObject({ from: 'snapshot', order });
      await using hpt = await openHpt(source(bytes));
      const table = await htab.table();
      const software = { ignoreSoftwareBits: true };
      expect(table?.equals(await hpt.table(), software)).toBe(true);
    },
  );
});

test('a table of another order is refused before anything is written', async () => {
  const bytes = load(fixture('kvm/h8-guest.htab.gz'));
  for (const order of [18, 21, 23, 24]) {
    const htab = new SoftwareHtab({ order });
    await using fd = written(htab);
    expect(await fd.order()).toBe(order);
    const refused = restore(source(bytes), fd);
    await expect(refused).rejects.toMatchObject({
      code: 'E_ORDER',
      expected: 'order 22',
      actual: String(order),
    });
    expect((await htab.table())?.counts().valid).toBe(0);
  }
  const larger = new SoftwareHtab({ order: 24 });
  await using fd = written(larger);
  await restore(source(bytes), fd, { allowOtherOrder: true });
  expect((await larger.table())?.counts().valid).toBeGreaterThan(0);
});

test('a VM without HPT', async () => {
  await using fd = written(new SoftwareHtab());
  expect(await fd.order()).toBeUndefined();
  const bytes = load(fixture('kvm/h8-guest.htab.gz'));
  await expect(restore(source(bytes), fd)).rejects.toMatchObject({ code: 'E_NO_HPT' });
});

test('orders up to 36, and beyond', async () => {
  for (const [order, told] of [
    [18, 18],
    [35, 35],
    [36, 36],
    [46, 36],
  ] as const) {
    await using fd = written(new SoftwareHtab({ order }));
    expect(await fd.order()).toBe(told);
  }
});

test('a guest that runs', async () => {
  const htab = new SoftwareHtab({ order: 22 });
  htab.running = true;
  await using fd = written(htab);
  await expect(fd.order()).rejects.toMatchObject({ errno: 'EBUSY' });
  const refused = restore(source(load(fixture('kvm/h8-guest.htab.gz'))), fd);
  await expect(refused).rejects.toThrow(/stop the guest/);
});

test('what is in the table stays, unless every slot is written', async () => {
  const htab = new SoftwareHtab({ order: 18 });
  await using fd = written(htab);
  await restore(source(blocks([5, 2, 0])), fd, { from: 'kernel', byteOrder: 'little', order: 18 });
  const more = scratchFile('more.htab', blocks([9, 1, 0]));
  await restore(more, fd, { from: 'kernel', byteOrder: 'little', order: 18 });
  expect((await htab.table())?.counts().valid).toBe(3);
  const options = { from: 'kernel', byteOrder: 'little', order: 18, canonical: true } as const;
  await restore(more, fd, options);
  expect((await htab.table())?.counts().valid).toBe(1);
});

test('bolted entries only', async () => {
  const htab = new SoftwareHtab({ order: 22 });
  await using fd = written(htab);
  await restore(source(load(fixture('kvm/h8-guest.htab.gz'))), fd, { boltedOnly: true });
  const bolted = await openHpt(source(load(fixture('kvm/h8-guest.bolted.gz'))));
  const table = await HashPageTable.from(bolted.items(), 22);
  expect((await htab.table())?.equals(table)).toBe(true);
});

test('an entry that the kernel refuses', async () => {
  const bytes = blocks([5, 3, 0]);
  bytes.writeUInt8(0x40, 8 + 32 + 7);
  await using fd = written(new SoftwareHtab({ order: 18 }));
  const refused = restore(source(bytes), fd, { from: 'kernel', byteOrder: 'little', order: 18 });
  await expect(refused).rejects.toMatchObject({ errno: 'EINVAL', block: { index: 5 } });
});
