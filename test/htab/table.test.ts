import fc from 'fast-check';
import {
  BlockBatch,
  BufferSource,
  ByteReader,
  boltedOnly,
  Census,
  canonical,
  decodeImage,
  decodeSection,
  encodeKernel,
  encodeSection,
  HashPageTable,
  type HtabItem,
  writeImage,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { type PlainBlock, plainEncode, plainKernel, plainTable } from '../helpers/reference.js';
import { collect } from '../helpers/sources.js';

const ORDER = 18;
const SLOTS = 2 ** (ORDER - 4);

/** Entries with V mostly set, software bits sometimes, and now and then all zero. */
const entry = fc
  .tuple(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
  .map(([dw0, dw1]) => {
    const bytes = Buffer.alloc(16);
    if (dw0 % 16n === 0n) return bytes;
    bytes.writeBigUInt64BE(dw0 % 8n === 0n ? dw0 : dw0 | 1n);
    bytes.writeBigUInt64BE(dw1, 8);
    return bytes;
  });

/** Blocks within a table of order 18, often near each other so that they overlap. */
const block: fc.Arbitrary<PlainBlock> = fc
  .record({
    base: fc.constantFrom(0, 250, 8190, SLOTS - 600),
    step: fc.nat(40),
    entries: fc.array(entry, { maxLength: 12 }),
    nInvalid: fc.oneof(fc.nat(8), fc.nat(540)),
  })
  .map(({ base, step, entries, nInvalid }) => ({
    index: base + step,
    entries: Buffer.concat(entries),
    nInvalid,
  }))
  .filter(({ index, entries, nInvalid }) => index + entries.length + nInvalid > 0);

const parts = fc.array(fc.array(block, { maxLength: 12 }), { minLength: 1, maxLength: 4 });

async function* itemsOf(blocks: PlainBlock[][]): AsyncGenerator<HtabItem> {
  yield { type: 'order', order: ORDER, offset: 0 };
  for (const list of blocks) {
    yield { type: 'part', offset: 0 };
    const bytes = plainEncode(list, false);
    // Where a batch begins in memory is not said: on no word of it, in general.
    const shifted = Buffer.concat([Buffer.alloc(list.length % 8), bytes]).subarray(list.length % 8);
    yield { type: 'blocks', batch: new BlockBatch(shifted, 'big', list.length, 0) };
    yield { type: 'end', offset: 0 };
  }
}

/** A file in memory. */
function memoryFile() {
  let bytes = Buffer.alloc(0);
  return {
    get bytes() {
      return bytes;
    },
    async read(target: Uint8Array, position: number) {
      const part = bytes.subarray(position, position + target.length);
      target.set(part);
      return part.length;
    },
    async write(part: Uint8Array, position: number) {
      if (bytes.length < position + part.length) {
        bytes = Buffer.concat([bytes, Buffer.alloc(position + part.length - bytes.length)]);
      }
      bytes.set(part, position);
    },
    async truncate(size: number) {
      bytes = Buffer.concat([
        bytes.subarray(0, size),
        Buffer.alloc(Math.max(0, size - bytes.length)),
      ]);
    },
  };
}

function validOf(image: Buffer, flag = 0x1): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at < image.length; at += 16) {
    const flags = image[at + 7] ?? 0;
    if (flags & 1 && flags & flag) found.set(at / 16, image.subarray(at, at + 16));
  }
  return found;
}

describe('against a flat table', () => {
  test('apply, look-up, iteration and counts', async () => {
    await fc.assert(
      fc.asyncProperty(parts, async (blocks) => {
        const image = plainTable(ORDER, blocks.flat());
        const table = await HashPageTable.from(itemsOf(blocks));
        const valid = validOf(image);
        expect([...table.entries()].map((e) => e.index)).toEqual([...valid.keys()]);
        for (const { index, dw0, dw1 } of table.entries()) {
          expect(dw0).toBe(image.readBigUInt64BE(index * 16));
          expect(dw1).toBe(image.readBigUInt64BE(index * 16 + 8));
          expect(table.get(index)).toEqual({ index, dw0, dw1 });
        }
        expect(table.counts()).toMatchObject({
          valid: valid.size,
          bolted: validOf(image, 0x10).size,
          large: validOf(image, 0x4).size,
        });
        const empty = image.findIndex((_, i) => i % 16 === 0 && image.readBigUInt64BE(i) === 0n);
        expect(table.get(empty / 16)?.dw0 ?? 0n).toBe(0n);
      }),
    );
  });

  test('writeImage gives the flat table', async () => {
    await fc.assert(
      fc.asyncProperty(parts, async (blocks) => {
        const file = memoryFile();
        await writeImage(itemsOf(blocks), file);
        expect(file.bytes.equals(plainTable(ORDER, blocks.flat()))).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  test('decodeImage gives the valid entries', async () => {
    await fc.assert(
      fc.asyncProperty(parts, async (blocks) => {
        const image = plainTable(ORDER, blocks.flat());
        const reader = new ByteReader(new BufferSource(image));
        const table = await HashPageTable.from(decodeImage(reader, ORDER));
        expect([...table.entries()].map((e) => e.index)).toEqual([...validOf(image).keys()]);
        expect(table.counts().notValid).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  test('the census counts what the table holds', async () => {
    await fc.assert(
      fc.asyncProperty(parts, async (blocks) => {
        const census = new Census();
        for await (const item of itemsOf(blocks)) census.add(item);
        const { valid, bolted } = (await HashPageTable.from(itemsOf(blocks))).counts();
        expect(census.summary()).toMatchObject({ valid, bolted, parts: blocks.length });
      }),
    );
  });

  test('canonical blocks: every slot in kernel framing, valid runs in QEMU framing', async () => {
    await fc.assert(
      fc.asyncProperty(parts, fc.boolean(), async (blocks, bolted) => {
        const options = { boltedOnly: bolted };
        const kernel = plainKernel(
          await collect(
            encodeKernel(canonical(itemsOf(blocks), 'kernel', options), { byteOrder: 'little' }),
          ),
          true,
        );
        let next = 0;
        for (const { index, entries, nInvalid } of kernel) {
          expect(index).toBe(next);
          next = index + entries.length / 16 + nInvalid;
        }
        expect(next).toBe(SLOTS);
        const qemu = plainKernel(
          await collect(
            encodeKernel(canonical(itemsOf(blocks), 'qemu', options), { byteOrder: 'little' }),
          ),
          true,
        );
        expect(qemu.every((b) => b.nInvalid === 0 && b.entries.length > 0)).toBe(true);
        const expected = validOf(plainTable(ORDER, blocks.flat()), bolted ? 0x10 : 1);
        for (const list of [kernel, qemu]) {
          const image = plainTable(ORDER, list);
          expect([...validOf(image).keys()]).toEqual([...expected.keys()]);
          for (const [index, bytes] of validOf(image)) {
            const clean = Buffer.from(expected.get(index) ?? Buffer.alloc(16));
            clean[7] = (clean[7] ?? 0) & ~0x60;
            clean[8] = (clean[8] ?? 0) & ~0x40;
            expect(bytes).toEqual(clean);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  test('the bolted filter keeps the table of bolted entries', async () => {
    await fc.assert(
      fc.asyncProperty(parts, async (blocks) => {
        const out = await collect(encodeSection(boltedOnly(itemsOf(blocks))));
        const table = await HashPageTable.from(
          decodeSection(new ByteReader(new BufferSource(out))),
        );
        const image = plainTable(ORDER, blocks.flat());
        // An entry with 0x10 and without V counts as bolted to the filter, as to the kernel's.
        expect([...table.entries()].map((e) => e.index)).toEqual([...validOf(image, 0x10).keys()]);
      }),
    );
  });

  test('equality ignores how a table came to be, and software bits on demand', async () => {
    await fc.assert(
      fc.asyncProperty(parts, async (blocks) => {
        const table = await HashPageTable.from(itemsOf(blocks));
        const again = await HashPageTable.from(table.items());
        expect(again.equals(table)).toBe(true);
        const first = [...table.entries()][0];
        if (first === undefined) return;
        const changed = Buffer.alloc(16);
        changed.writeBigUInt64BE(first.dw0 ^ 0x40n);
        changed.writeBigUInt64BE(first.dw1, 8);
        again.apply([{ index: first.index, nValid: 1, nInvalid: 0, entries: changed }]);
        expect(again.equals(table)).toBe(false);
        expect(again.equals(table, { ignoreSoftwareBits: true })).toBe(true);
      }),
    );
  });
});

describe('limits of the format', () => {
  test('runs are cut at 65535', async () => {
    const order = 22;
    const full = Buffer.alloc(16 * 65535);
    for (let at = 0; at < full.length; at += 16) full.writeBigUInt64BE(0x1n, at);
    const table = new HashPageTable(order);
    for (const index of [0, 65535]) {
      table.apply([{ index, nValid: 65535, nInvalid: 0, entries: full }]);
    }
    const kernel = plainKernel(
      await collect(encodeKernel(table.canonical('kernel'), { byteOrder: 'big' })),
      false,
    );
    expect(kernel.map((b) => [b.index, b.entries.length / 16, b.nInvalid])).toEqual([
      [0, 65535, 0],
      [65535, 65535, 65535],
      [196605, 0, 65535],
      [262140, 0, 4],
    ]);
  });

  test.each([17, 47, 18.5, Number.NaN])('order %d is refused', (order) => {
    expect(() => new HashPageTable(order)).toThrow(expect.objectContaining({ code: 'E_ORDER' }));
  });

  test('a table of order 46 takes no memory, and its last addressable slot works', async () => {
    const table = new HashPageTable(46);
    const entries = Buffer.alloc(16, 1);
    table.apply([{ index: 0xffffffff, nValid: 1, nInvalid: 0, entries }]);
    expect(table.get(0xffffffff)).toMatchObject({ dw0: 0x0101010101010101n });
    expect([...table.entries()].length).toBe(1);
    expect(() => table.get(table.slots)).toThrow(RangeError);
  });

  test('a block beyond the table is refused', () => {
    const table = new HashPageTable(18);
    const apply = () =>
      table.apply([{ index: SLOTS, nValid: 0, nInvalid: 1, entries: Buffer.alloc(0) }]);
    expect(apply).toThrow(expect.objectContaining({ code: 'E_BLOCK_RANGE' }));
  });
});
