import fc from 'fast-check';
import { decodeXbzrle } from 'spapr-htab';
import { digest, readSome } from '../digest.js';
import type { Layout } from '../layout.js';
import { must, type Target } from '../target.js';

const PAGE = 4096;

const runs = fc.array(
  fc.tuple(fc.integer({ min: 1, max: 300 }), fc.uint8Array({ minLength: 1, maxLength: 40 })),
  {
    maxLength: 12,
  },
);

const uleb = (value: number): Buffer =>
  value < 0x80 ? Buffer.of(value) : Buffer.of((value & 0x7f) | 0x80, value >> 7);

/** A page as the difference to what it was. */
export const xbzrle: Target = {
  name: 'xbzrle',
  variants: ['any'],
  feeds: 'bytes',
  valid: runs.map((list) => ({
    bytes: Buffer.concat(
      list.map(([skip, bytes]) => Buffer.concat([uleb(skip), uleb(bytes.length), bytes])),
    ),
  })),
  layout: (bytes): Layout => ({
    fields: Array.from({ length: Math.min(bytes.length, 200) }, (_, at) => ({
      at,
      width: 1 as const,
    })),
    spans: [],
  }),
  parse: async (source) => {
    await using reading = source;
    const delta = await readSome(reading, 0, source.size ?? 0);
    const wanted = plain(delta);
    const page = new Uint8Array(PAGE).fill(0x5a);
    try {
      const end = decodeXbzrle(delta, page);
      const same = wanted !== undefined && Buffer.compare(wanted, page) === 0;
      must(same, 'plain model', () => 'another page, or one that should be refused');
      return { value: `${digest(page)} ${end}`, kind: `${Math.ceil(end / 512)}` };
    } catch (error) {
      must(wanted === undefined, 'plain model', () => `refused: ${error}`);
      throw error;
    }
  },
};

/** The same read from its definition; undefined where it is none. */
function plain(delta: Buffer): Uint8Array | undefined {
  const page = new Uint8Array(PAGE).fill(0x5a);
  let at = 0;
  let to = 0;
  const length = (): number => {
    // A length is never the last byte.
    if (at + 2 > delta.length) return Number.NaN;
    const low = delta[at++] ?? 0;
    if (low < 0x80) return low;
    const high = delta[at++] ?? 0;
    return high < 0x80 ? (low & 0x7f) + high * 0x80 : Number.NaN;
  };
  for (let first = true; at < delta.length; first = false) {
    const skip = length();
    if (!(skip > 0 || (first && skip === 0)) || to + skip > PAGE) return undefined;
    to += skip;
    const count = length();
    if (!(count > 0) || to + count > PAGE || at + count > delta.length) return undefined;
    page.set(delta.subarray(at, at + count), to);
    at += count;
    to += count;
  }
  return page;
}
