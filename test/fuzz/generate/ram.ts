import fc from 'fast-check';

import { entries, guest, mappedGuest, memory, PAGE, pageOf } from '../../memory/guests.js';
import { DigestFile } from '../digest.js';
import type { Valid } from '../target.js';

const PAGES = 16;
const BLOCK = 'ppc_spapr.ram';

interface Entry {
  readonly kind: 'page' | 'zero' | 'compressed' | 'xbzrle';
  readonly page: number;
  readonly mark: number;
}

const entry: fc.Arbitrary<Entry> = fc.record({
  kind: fc.constantFrom('page', 'zero', 'compressed', 'xbzrle'),
  page: fc.nat(PAGES - 1),
  mark: fc.integer({ min: 1, max: 255 }),
});

/** Guests whose memory comes in rounds of every kind of page, with what it must be at the end. */
export const sentMemory: fc.Arbitrary<Valid> = fc
  .array(fc.array(entry, { maxLength: 6 }), { minLength: 1, maxLength: 4 })
  .map((rounds) => {
    const content: Record<number, Buffer> = {};
    const sent = rounds.map((round) => {
      let name: string | undefined = BLOCK;
      return round.map(({ kind, page, mark }) => {
        const bytes = encoded(kind, page, mark, name, content);
        name = undefined;
        return bytes;
      });
    });
    return { bytes: guest(sent), expected: digestOf(content), variant: 'largest' };
  });

function encoded(
  kind: Entry['kind'],
  page: number,
  mark: number,
  name: string | undefined,
  content: Record<number, Buffer>,
): Buffer {
  switch (kind) {
    case 'page':
      content[page] = pageOf(mark);
      return entries.page(page, pageOf(mark), name);
    case 'compressed':
      content[page] = pageOf(mark);
      return entries.compressed(page, pageOf(mark), name);
    case 'zero':
      content[page] = Buffer.alloc(PAGE);
      return entries.zero(page, 0, name);
    case 'xbzrle': {
      // 5 bytes stay, 3 are new.
      const changed = Buffer.from(content[page] ?? Buffer.alloc(PAGE));
      changed.fill(mark, 5, 8);
      content[page] = changed;
      return entries.xbzrle(page, Buffer.of(5, 3, mark, mark, mark), name);
    }
  }
}

/** Guests whose pages are at fixed places; small only but for the MiB that they begin at. */
export const mappedMemory: fc.Arbitrary<Valid> = fc
  .record({
    pages: fc.integer({ min: 1, max: PAGES }),
    marks: fc.array(fc.tuple(fc.nat(PAGES - 1), fc.integer({ min: 1, max: 255 })), {
      maxLength: 6,
    }),
    prefix: fc.constantFrom(0, 0, 77),
  })
  .map(({ pages, marks }) => {
    const content: Record<number, Buffer> = {};
    for (const [page, mark] of marks) content[page % pages] = pageOf(mark);
    return { bytes: mappedGuest(pages, content).bytes, variant: 'largest' };
  });

function digestOf(content: Record<number, Buffer>): string {
  const file = new DigestFile();
  void file.write(memory(PAGES, content), 0);
  return file.digest();
}

/** Lists of RAM blocks that are long, or whose lengths are large. None is empty: the list ends where the total is reached. */
export const longLists: fc.Arbitrary<Valid> = fc
  .array(fc.tuple(fc.string({ maxLength: 12 }), fc.integer({ min: 1, max: 2 ** 20 })), {
    minLength: 1,
    maxLength: 30,
  })
  .map((list) => {
    const blocks = new Map(list.map(([name, pages], i) => [`${i}${name.slice(0, 8)}`, pages]));
    const latin = [...blocks].map(
      ([name, pages]) => [name.replaceAll(/[^\x20-\x7e]/g, '?'), pages] as const,
    );
    return { bytes: guest([[], []], { blocks: latin }) };
  });
