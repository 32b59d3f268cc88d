import fc from 'fast-check';
import { BufferSource } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { SOURCE_KINDS, withSource } from '../helpers/sources.js';
import { chunk, hpte, htabPart, u32 } from '../helpers/stream.js';
import { boltedTable, dissect, guestWith, plain, rewritten, wastes } from './support.js';

const SLOTS = 2 ** 14;

/** A chunk of some entries, some of them bolted, some without V; and of empty slots behind them. */
const chunks = fc
  .record({
    index: fc.oneof(fc.nat(40), fc.nat(SLOTS - 60), fc.constant(SLOTS - 30)),
    flags: fc.array(fc.constantFrom(0x1, 0x11, 0x51, 0x5), { maxLength: 12 }),
    nInvalid: fc.oneof(fc.constant(0), fc.nat(18)),
    seed: fc.nat(0xffff),
  })
  .filter(({ flags, nInvalid, index }) => flags.length + nInvalid + index > 0)
  .map(({ index, flags, nInvalid, seed }) =>
    chunk(
      index,
      flags.map((flag, i) => hpte(seed + i, flag)),
      nInvalid,
    ),
  );

const parts = fc
  .array(fc.array(chunks, { maxLength: 8 }), { minLength: 1, maxLength: 4 })
  .map((list) => list.map((part) => htabPart(...part)));

const guests = fc.record({
  machine: fc.constantFrom('pseries-7.2', 'pseries-2.12-sxxm'),
  footers: fc.boolean(),
  vmdesc: fc.boolean(),
  commands: fc.boolean(),
  early: fc.boolean(),
  ended: fc.boolean(),
  parts,
});

/** Without footers nothing but the description tells the length of a device. */
const delimited = guests.map(({ parts: list, ...guest }) => ({
  ...guest,
  vmdesc: guest.vmdesc || !guest.footers,
  htab: [u32(18), ...list],
}));

const edits = fc.record({
  machine: fc.constantFrom(undefined, 'pseries-7.2', 'p', 'pseries-11.0-of-another-length'),
  boltedOnly: fc.boolean(),
  compact: fc.boolean(),
  replacement: fc.option(parts, { nil: undefined, freq: 1 }),
});

describe('any guest', () => {
  test('without edits is the same', async () => {
    await fc.assert(
      fc.asyncProperty(delimited, async (recipe) => {
        const guest = guestWith(recipe);
        const { bytes, result } = await rewritten(guest);
        expect(bytes.equals(guest)).toBe(true);
        expect(result.identical).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test('with its own section back is the same', async () => {
    await fc.assert(
      fc.asyncProperty(delimited, async (recipe) => {
        const guest = guestWith(recipe);
        const options = { htabOptions: { from: 'section' as const } };
        const htab = new BufferSource(Buffer.concat(recipe.htab));
        expect((await rewritten(guest, { ...options, htab })).bytes.equals(guest)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test('with any edits: the table is the expected one, and all else what it was', async () => {
    await fc.assert(
      fc.asyncProperty(delimited, edits, async (recipe, { replacement, ...edit }) => {
        const guest = guestWith(recipe);
        const section = Buffer.concat([u32(18), ...(replacement ?? recipe.htab.slice(1))]);
        const htab = replacement && new BufferSource(section);
        const options = { ...edit, htab, htabOptions: { from: 'section' as const } };
        const { bytes, result } = await rewritten(guest, options);
        const { payloads, info } = await dissect(bytes);
        // The same builder with the new payloads and name makes the same stream: nothing else moved.
        const machine = edit.machine ?? recipe.machine;
        expect(bytes.equals(guestWith({ ...recipe, machine, htab: payloads }))).toBe(true);
        const wanted = plain(section);
        const made = plain(Buffer.concat(payloads));
        const table = edit.boltedOnly ? boltedTable(wanted.table) : wanted.table;
        expect(made.order).toBe(18);
        expect(made.table.equals(table)).toBe(true);
        if (edit.compact) expect(wastes(made.parts.flat())).toEqual([]);
        if (edit.compact || (replacement && replacement.length !== recipe.htab.length - 1)) {
          expect(made.parts.slice(0, -1).flat()).toEqual([]);
        }
        expect(result.identical).toBe(bytes.equals(guest));
        expect(result.hpt?.after).toMatchObject({
          parts: recipe.htab.length - 1,
          blocks: made.parts.flat().length,
          bytes: payloads.reduce((sum, { length }) => sum + length, 0),
        });
        expect(info.hpt).toMatchObject({ order: 18, blocks: made.parts.flat().length });
      }),
      { numRuns: 150 },
    );
  });

  test('gives the same from every kind of source', async () => {
    await fc.assert(
      fc.asyncProperty(delimited, edits, async (recipe, { replacement: _, ...edit }) => {
        // Forward only, footers are what tells the lengths.
        const guest = guestWith({ ...recipe, footers: true });
        const expected = await rewritten(guest, edit);
        for (const kind of SOURCE_KINDS) {
          await withSource(kind, guest, async (source) => {
            const { bytes, result } = await rewritten(source, edit);
            expect(bytes.equals(expected.bytes)).toBe(true);
            expect(result.hpt).toEqual(expected.result.hpt);
          });
        }
      }),
      { numRuns: 12 },
    );
  });

  test('cut off anywhere is refused, and nothing but typed errors comes out of damage', async () => {
    const guest = guestWith({ htab: [u32(18), htabPart(chunk(1, [hpte(1)])), htabPart()] });
    const eof = (await dissect(guest)).info.eof ?? 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(eof - 1), async (length) => {
        const failed = rewritten(guest.subarray(0, length), { compact: true });
        await expect(failed).rejects.toMatchObject({ code: expect.stringMatching(/^E_/) });
      }),
      { numRuns: 60 },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(guest.length - 1), fc.nat(255), async (at, byte) => {
        const damaged = Buffer.from(guest);
        damaged[at] = byte;
        await rewritten(damaged, { compact: true, machine: 'pseries-7.9-x' }).catch((error) => {
          expect(error.code).toMatch(/^E_/);
        });
      }),
      { numRuns: 150 },
    );
  });
});
