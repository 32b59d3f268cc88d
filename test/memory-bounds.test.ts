import { HashPageTable, LimitError, SoftwareHtab } from 'spapr-htab';
import { expect, test } from 'vitest';
import { BlockBatch } from '../src/htab/block.js';
import { Census } from '../src/htab/census.js';
import { SlotMarks } from '../src/htab/marks.js';
import { chunk, hpte } from './helpers/stream.js';

/** Blocks of one entry each, over all slots that 32 bits can name, in no order. */
function scattered(count: number): BlockBatch {
  const step = 2 ** 32 / count;
  const at = (i: number) => Math.floor(((i * 7919) % count) * step);
  const blocks = Array.from({ length: count }, (_, i) => chunk(at(i), [hpte(i)]));
  return new BlockBatch(Buffer.concat(blocks), 'big', count, 0);
}

const ENTRIES = 100_003;
const MIB = 2 ** 20;
const held = () => process.memoryUsage().arrayBuffers;

test('counting entries that lie far apart takes 66 bytes for each, beside the branches', () => {
  const batch = scattered(ENTRIES);
  const before = held();
  const census = new Census();
  census.add({ type: 'order', order: 46, offset: 0 });
  census.add({ type: 'blocks', batch });
  expect(held() - before).toBeLessThan(64 * MIB + ENTRIES * 66 + MIB);
  expect(census.summary()).toMatchObject({ valid: ENTRIES, blocks: ENTRIES });
});

test('slots that are emptied give their memory to others', () => {
  const marks = new SlotMarks({ tableBytes: MIB });
  for (let i = 0; i < 100_000; i++) {
    marks.mark((i % 4096) * 256, 1);
    marks.clear((i % 4096) * 256, 256);
  }
  expect(marks.valid).toBe(0);
});

test('a table in memory ends at the limit, in any order of blocks', () => {
  const table = new HashPageTable(46, { tableBytes: 4 * MIB });
  expect(() => table.apply(scattered(ENTRIES))).toThrow(LimitError);
  const enough = new HashPageTable(46, { tableBytes: 400 * MIB });
  enough.apply(scattered(ENTRIES));
  expect(enough.counts().valid).toBe(ENTRIES);
});

test('so does a table in software, which stays usable', async () => {
  const vm = new SoftwareHtab({ order: 36, limits: { tableBytes: MIB } });
  await using fd = vm.open({ write: true });
  await expect(fd.apply(scattered(ENTRIES))).rejects.toThrow('--limit tableBytes=N');
  vm.allocate(18);
  expect(vm.hEnter(0, 1n, 0x190n)).toBe('H_SUCCESS');
});
