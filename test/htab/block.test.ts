import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BlockBatch } from '../../src/htab/block.js';
import { plainEncode } from '../helpers/reference.js';

const block = fc
  .record({ index: fc.nat(0xffff), nValid: fc.nat(5), nInvalid: fc.nat(9) })
  .map(({ index, nValid, nInvalid }) => ({
    index,
    entries: Buffer.alloc(16 * nValid, index % 256),
    nInvalid,
  }));

test('pieces of a batch are its blocks, and none is cut', () => {
  fc.assert(
    fc.property(
      fc.array(block, { maxLength: 40 }),
      fc.boolean(),
      fc.integer({ min: 1, max: 300 }),
      (blocks, little, limit) => {
        const bytes = plainEncode(blocks, little);
        const batch = new BlockBatch(bytes, little ? 'little' : 'big', blocks.length, 1000);
        const pieces = [...batch.pieces(limit)];
        expect(pieces.flatMap((piece) => [...piece])).toEqual([...batch]);
        let at = 0;
        for (const piece of pieces) {
          expect(piece.offset).toBe(1000 + at);
          expect(piece.count).toBe([...piece].length);
          at += piece.bytes.length;
          // A piece is full with the block that fills it, and not before.
          const last = [...piece].at(-1)?.entries.length ?? 0;
          expect(piece.bytes.length - 8 - last).toBeLessThan(limit);
          if (piece !== pieces.at(-1)) expect(piece.bytes.length).toBeGreaterThanOrEqual(limit);
        }
        expect(at).toBe(bytes.length);
      },
    ),
  );
});
