import { Decoder, Encoder } from '@msgpack/msgpack';
import { type Field, fieldsAt, type Layout, type Span } from '../layout.js';

const encoder = new Encoder();
const WORDS = [
  { trailer: { parts: 1, blocks: 0, valid: 0, invalid: 0 } },
  { order: 18 },
  { order: 46 },
  'part',
  'end',
  'no-hpt',
  [0, 0, new Uint8Array(0)],
  [1, 65535, new Uint8Array(16)],
  [0xffffffff, 1, new Uint8Array(32)],
  { ['__proto__']: { polluted: 1 } },
  null,
  -1,
  1e300,
  [[[[[[]]]]]],
].map((value) => encoder.encode(value));

/** Records one after another: their type bytes and the lengths behind them. */
export function archiveLayout(bytes: Buffer): Layout {
  const fields: Field[] = [];
  const spans: Span[] = [];
  let at = 0;
  for (const end of recordEnds(bytes)) {
    fields.push(...fieldsAt(at, [1, 1, 1, 2, 4]));
    for (let more = at; more < Math.min(end, at + 200); more++) fields.push({ at: more, width: 1 });
    spans.push({ from: at, to: end });
    at = end;
    if (spans.length > 300) break;
  }
  return { fields, spans, words: WORDS };
}

function recordEnds(bytes: Buffer): number[] {
  const ends: number[] = [];
  let at = 0;
  const decoder = new Decoder();
  try {
    for (const record of decoder.decodeMulti(bytes)) {
      at += encoder.encodeSharedRef(record).length;
      ends.push(Math.min(at, bytes.length));
    }
  } catch {
    // As far as it goes.
  }
  return ends;
}
