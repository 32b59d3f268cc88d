import { BufferSource } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { SliceSource } from '../../src/bytes/source.js';
import { itemsAt } from '../../src/rewrite/payloads.js';
import { refusal as refusalOf } from '../container/support.js';
import { chunk, hpte, htabPart, u32 } from '../helpers/stream.js';
import { guestWith, refusal, rewritten } from './support.js';

/** The largest block there is: 65535 entries. */
const LARGEST = htabPart(chunk(0, Array(0xffff).fill(hpte(1)), 0));
const ORDER = u32(22);
const START = { payloadOffset: 0, payloadLength: ORDER.length };

describe('payloads at places of a stream', () => {
  const section = Buffer.concat([ORDER, LARGEST]);

  test('hold the largest block', async () => {
    const place = { payloadOffset: ORDER.length, payloadLength: LARGEST.length };
    let bytes = 0;
    for await (const item of itemsAt(new BufferSource(section), [START, place], 'big')) {
      if (item.type === 'blocks') bytes += item.batch.bytes.length;
    }
    expect(bytes).toBe(LARGEST.length - 12);
  });

  // The headers of blocks are those of a stream that was another one when it was measured.
  test.each([12, 36, 70_000, 2 ** 20 - 100])(
    'of %i bytes end inside a block that has become larger',
    async (payloadLength) => {
      const place = { payloadOffset: ORDER.length, payloadLength };
      const read = async (): Promise<void> => {
        for await (const _ of itemsAt(
          new SliceSource(new BufferSource(section), 0),
          [START, place],
          'big',
        ));
      };
      expect((await refusalOf(read())).code).toBe('E_TRUNCATED');
    },
  );
});

describe('a stream whose blocks become larger between two readings', () => {
  const small = guestWith({ htab: [ORDER, htabPart(chunk(0, [hpte(1)]), chunk(1, [hpte(2)]))] });

  test.each([{ boltedOnly: true }, { boltedOnly: true, machine: 'pseries-8.0' }])(
    '%j: is an error of the stream',
    async (edits) => {
      const place = small.indexOf(Buffer.concat([u32(0), chunk(0, [hpte(1)])]));
      const count = place + 4 + 4;
      class Changing extends BufferSource {
        override read(target: Uint8Array, position: number): Promise<number> {
          // The walk reads whole windows; what begins here reads the payload alone, later.
          if (position === place) this.bytes.set([0xff, 0xff], count);
          return super.read(target, position);
        }
      }
      const source = new Changing(Buffer.from(small));
      expect((await refusal(rewritten(source, edits))).code).toBe('E_TRUNCATED');
      expect(source.bytes[count]).toBe(0xff);
    },
  );
});
