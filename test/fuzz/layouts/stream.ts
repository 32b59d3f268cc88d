import { BufferSource, describeStream } from 'spapr-htab';
import { ramEntries } from '../cut.js';
import {
  type Field,
  fieldsAt,
  joined,
  type Layout,
  moved,
  NO_LAYOUT,
  type Span,
} from '../layout.js';
import { sectionLayout } from './blocks.js';
import { jsonLayout } from './json.js';

/** Elements of a migration stream and what they begin with; payloads of `ram` and `spapr/htab`. */
export async function streamLayout(bytes: Buffer): Promise<Layout> {
  const info = await describeStream(new BufferSource(bytes)).catch(() => undefined);
  if (info === undefined) return headLayout(bytes);
  const fields: Field[] = fieldsAt(0, [4, 4, 1, 4]);
  const spans: Span[] = [];
  const inner: Layout[] = [];
  const footer = info.footers ? 5 : 0;
  for (const { name, parts } of info.sections) {
    for (const { kind, offset, payloadOffset, payloadLength } of parts) {
      const end = payloadOffset + payloadLength;
      fields.push(...fieldsAt(offset, kind === 'start' || kind === 'full' ? [1, 4, 1] : [1, 4]));
      if (kind === 'start' || kind === 'full') fields.push(...fieldsAt(payloadOffset - 8, [4, 4]));
      if (footer > 0) fields.push(...fieldsAt(end, [1, 4]));
      spans.push({ from: offset, to: end + footer }, { from: payloadOffset, to: end });
      if (name === 'ram') inner.push(ramLayout(bytes, payloadOffset, end));
      else if (name === 'spapr/htab') inner.push(sectionLayout(bytes, payloadOffset, end));
      else fields.push(...fieldsAt(payloadOffset, [4, 4, 4]));
    }
  }
  for (const { offset, length } of info.commands) {
    fields.push(...fieldsAt(offset, [1, 2, 2]));
    spans.push({ from: offset, to: offset + 5 + length });
  }
  if (info.vmdesc !== undefined) {
    const { offset, length } = info.vmdesc;
    fields.push(...fieldsAt(offset, [1, 4]));
    inner.push(moved(jsonLayout(bytes.subarray(offset + 5, offset + 5 + length)), offset + 5));
  }
  return joined({ fields, spans }, ...inner);
}

function headLayout(bytes: Buffer): Layout {
  return {
    ...NO_LAYOUT,
    fields: fieldsAt(0, [4, 4, 1, 4]),
    spans: [{ from: 0, to: bytes.length }],
  };
}

/** Words, names and lengths of page entries, and of the list of RAM blocks. */
export function ramLayout(bytes: Buffer, from: number, to: number): Layout {
  const payload = bytes.subarray(0, to);
  const fields: Field[] = [];
  const spans: Span[] = [];
  for (const { at, end } of ramEntries(payload, from).slice(0, 400)) {
    fields.push({ at, width: 8 }, { at: at + 6, width: 2 }, ...fieldsAt(at + 8, [1, 2, 4]));
    spans.push({ from: at, to: end });
    if ((bytes[at + 7] ?? 0) & 4) {
      // The list: counted names and lengths, and more with mapped-ram.
      for (let name = end; name + 9 <= to; ) {
        const length = bytes[name] ?? 0;
        fields.push({ at: name, width: 1 }, ...fieldsAt(name + 1 + length, [8, 4, 8, 8, 8]));
        spans.push({ from: name, to: name + 9 + length });
        name += 9 + length;
        if (spans.length > 500) break;
      }
    }
  }
  return { fields, spans };
}
