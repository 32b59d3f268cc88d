import { type Field, fieldsAt, type Layout, type Span } from '../layout.js';

/** Blocks that are looked at: of more, those at the beginning and here and there. */
const MOST = 200;

/** Headers of blocks one after another, flags of their first entries; and where they end. */
export function blocksLayout(
  bytes: Buffer,
  little: boolean,
  from = 0,
  to = bytes.length,
): Layout & { readonly end: number } {
  const fields: Field[] = [];
  const spans: Span[] = [];
  let at = from;
  for (let count = 0; at + 8 <= to; count++) {
    const nValid = little ? bytes.readUInt16LE(at + 4) : bytes.readUInt16BE(at + 4);
    const isMark = bytes.readUInt32LE(at) === 0 && bytes.readUInt32LE(at + 4) === 0;
    const end = Math.min(to, at + 8 + nValid * 16);
    if (count < MOST || count % 97 === 0) {
      fields.push(...fieldsAt(at, [4, 2, 2], little));
      for (let entry = at + 8; entry + 16 <= Math.min(end, at + 40); entry += 16) {
        fields.push({ at: entry, width: 1 }, { at: entry + 7, width: 1 });
        fields.push({ at: entry + 14, width: 2 });
      }
      spans.push({ from: at, to: end });
    }
    at = end;
    if (isMark) break;
  }
  return { fields, spans, end: at };
}

/** Payloads of `spapr/htab` one after another. */
export function sectionLayout(bytes: Buffer, from = 0, to = bytes.length): Layout {
  const fields: Field[] = [];
  const spans: Span[] = [];
  for (let at = from; at + 4 <= to; ) {
    const begin = at;
    fields.push({ at, width: 4 });
    const word = bytes.readUInt32BE(at);
    at += 4;
    if (word === 0) {
      const blocks = blocksLayout(bytes, false, at, to);
      fields.push(...blocks.fields);
      spans.push(...blocks.spans);
      at = blocks.end;
    }
    spans.push({ from: begin, to: at });
  }
  return { fields, spans };
}
