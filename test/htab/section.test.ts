import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import {
  BufferSource,
  ByteReader,
  convert,
  decodeKernel,
  decodeSection,
  encodeKernel,
  encodeSection,
  openHpt,
  SpaprHtabError,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { fixture, load } from '../helpers/fixtures.js';
import { type PlainBlock, plainElements, plainEncode } from '../helpers/reference.js';
import { collect, SOURCE_KINDS, scratchFile } from '../helpers/sources.js';
import { chunk, hpte, htabPart, smallGuest, u32, u64 } from '../helpers/stream.js';

const decode = async (bytes: Uint8Array): Promise<Buffer> =>
  collect(encodeSection(decodeSection(new ByteReader(new BufferSource(bytes)))));

describe('valid payloads come out as they went in', () => {
  test.each([
    ['START alone', u32(18)],
    ['empty parts', Buffer.concat([u32(46), htabPart(), htabPart(), htabPart()])],
    ['radix', u32(0xffffffff)],
    ['radix in START, PART and END', Buffer.concat([1, 2, 3].map(() => u32(0xffffffff)))],
    ['a block that counts nothing', Buffer.concat([u32(18), htabPart(chunk(5, []))])],
    ['the last slots', Buffer.concat([u32(18), htabPart(chunk(16380, [hpte(1)], 3))])],
    [
      'a table that is begun anew',
      Buffer.concat([u32(18), htabPart(chunk(1, [hpte(1)])), u32(19)]),
    ],
    [
      'the largest block',
      Buffer.concat([u32(22), htabPart(chunk(9, Array(65535).fill(hpte(7)), 65535))]),
    ],
    [
      'entries that are not valid',
      Buffer.concat([u32(18), htabPart(chunk(3, [Buffer.alloc(16, 2)]))]),
    ],
  ])('%s', async (_name, bytes) => {
    expect((await decode(bytes)).equals(bytes)).toBe(true);
    await using hpt = await openHpt(new BufferSource(bytes));
    expect(hpt.format).toBe('section');
  });

  test('any chunks, in any pieces', async () => {
    const block = fc
      .tuple(fc.nat(15000), fc.nat(30), fc.nat(700))
      .map(([index, valid, invalid]) => chunk(index, Array(valid).fill(hpte(index + 1)), invalid))
      .filter((bytes) => !bytes.subarray(0, 8).equals(Buffer.alloc(8)));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(block, { maxLength: 20 }), { maxLength: 5 }),
        async (parts) => {
          const bytes = Buffer.concat([u32(18), ...parts.map((blocks) => htabPart(...blocks))]);
          for (const { open, name } of SOURCE_KINDS) {
            if (name === 'file') continue;
            const items = decodeSection(new ByteReader(await open(bytes)));
            expect((await collect(encodeSection(items))).equals(bytes)).toBe(true);
          }
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe('damage', () => {
  const whole = Buffer.concat([
    u32(18),
    htabPart(chunk(1, [hpte(1), hpte(2)], 3), chunk(9, [], 2)),
    htabPart(),
  ]);

  test.each([
    ['an order that cannot be', u32(17), 'E_ORDER', 0],
    ['an order that would take all memory', u32(0x7fffffff), 'E_ORDER', 0],
    ['blocks before the order', htabPart(), 'E_SECTION', 0],
    [
      'a slot beyond the table',
      Buffer.concat([u32(18), htabPart(chunk(16384, [hpte(1)]))]),
      'E_BLOCK_RANGE',
      8,
    ],
    [
      'a count beyond the table',
      Buffer.concat([u32(18), htabPart(chunk(16383, [], 2))]),
      'E_BLOCK_RANGE',
      8,
    ],
    // 0xffffffff + 2 wraps to 1 in the 32 bits that QEMU adds in (hw/ppc/spapr.c htab_load).
    [
      'a sum that wraps',
      Buffer.concat([u32(18), htabPart(chunk(0xffffffff, [hpte(1)], 1))]),
      'E_BLOCK_RANGE',
      8,
    ],
    [
      'blocks of a radix guest',
      Buffer.concat([u32(0xffffffff), htabPart(chunk(0, [hpte(1)]))]),
      'E_BLOCK_RANGE',
      8,
    ],
    ['no end marker', whole.subarray(0, -8), 'E_TRUNCATED', whole.length - 8],
  ])('%s', async (_name, bytes, code, offset) => {
    await expect(decode(bytes)).rejects.toMatchObject({ code, offset });
  });

  test('cut off at any byte: an error that names the place, or whole payloads', async () => {
    for (let length = 1; length < whole.length; length++) {
      const cut = whole.subarray(0, length);
      try {
        expect((await decode(cut)).equals(cut)).toBe(true);
      } catch (error) {
        if (!(error instanceof SpaprHtabError)) throw error;
        expect(error.code).toBe('E_TRUNCATED');
        expect(error.offset).toBeLessThanOrEqual(length);
      }
    }
  });
});

describe('little-endian chunk headers, as QEMU up to 2.2 wrote them', () => {
  const right = plainElements(load(fixture('kvm/h8-guest.htabsec.gz')));
  const chunks = right.subarray(8, -8);
  /** The section of the same guest with the kernel's headers passed on as they were. */
  const wrong = Buffer.concat([right.subarray(0, 8), kernelOrder(chunks), right.subarray(-8)]);

  function kernelOrder(bytes: Buffer): Buffer {
    const blocks: PlainBlock[] = [];
    for (let at = 0; at < bytes.length; ) {
      const entries = bytes.subarray(at + 8, at + 8 + 16 * bytes.readUInt16BE(at + 4));
      blocks.push({ index: bytes.readUInt32BE(at), entries, nInvalid: bytes.readUInt16BE(at + 6) });
      at += 8 + entries.length;
    }
    return plainEncode(blocks, true);
  }

  test('are noticed, read and reported', async () => {
    const out = scratchFile('right.section');
    const { warnings } = await convert(new BufferSource(wrong), out);
    expect(readFileSync(out).equals(right)).toBe(true);
    expect(warnings).toMatchObject([{ code: 'W_HTAB', offset: 8 }]);
  });

  test.each([
    // As a big-endian count, 1 is 256: more entries than the file has.
    [1, 0],
    [1, 3],
    [2, 1],
  ])('are noticed in a file that is too short for the other order: %i, %i', async (n, gap) => {
    const entries = Buffer.concat(Array.from({ length: n }, (_, i) => hpte(i + 1)));
    const blocks = [{ index: 0, entries, nInvalid: gap }];
    const made = (little: boolean) =>
      Buffer.concat([u32(18), u32(0), plainEncode(blocks, little), Buffer.alloc(8)]);
    expect((await decode(made(true))).equals(made(false))).toBe(true);
    expect((await decode(made(false))).equals(made(false))).toBe(true);
    // Cut off, it is neither, and the usual order is what it is said to lack something of.
    await expect(decode(made(false).subarray(0, -12))).rejects.toMatchObject({
      code: 'E_TRUNCATED',
      offset: 8,
    });
  });

  test('are never believed where big-endian makes sense', async () => {
    expect((await decode(right)).equals(right)).toBe(true);
    const guest = smallGuest();
    const { warnings } = await convert(new BufferSource(guest), scratchFile('x.section'));
    expect(warnings).toEqual([]);
  });
});

test('an end of part that a kernel file carries comes back as one', async () => {
  const section = Buffer.concat([
    u32(20),
    htabPart(chunk(1, [hpte(1)])),
    htabPart(),
    htabPart(chunk(7, [], 1)),
  ]);
  const items = () => decodeSection(new ByteReader(new BufferSource(section)));
  const kernel = await collect(encodeKernel(items(), { byteOrder: 'little', markParts: true }));
  expect(kernel.length).toBe(section.length - 4 - 3 * 4);
  expect(kernel.subarray(24, 40).equals(Buffer.concat([u64(0), u64(0)]))).toBe(true);
  const reader = new ByteReader(new BufferSource(kernel));
  const back = encodeSection(decodeKernel(reader, { byteOrder: 'little', order: 20 }));
  expect((await collect(back)).equals(section)).toBe(true);
});
