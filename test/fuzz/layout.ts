/** A number in a file that means something to its parser: big-endian unless `little`. */
export interface Field {
  readonly at: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly little?: boolean;
}

/** Bytes that can be left out, doubled, moved or taken from another file as a whole. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** Where the structure of a file is: what a mutation should meet. Places may be wrong; none must be right. */
export interface Layout {
  readonly fields: readonly Field[];
  readonly spans: readonly Span[];
  /** What may stand in place of a span: words of the format's language. */
  readonly words?: readonly Uint8Array[];
}

export const NO_LAYOUT: Layout = { fields: [], spans: [] };

/** The same layout of bytes that begin elsewhere. */
export function moved({ fields, spans, words }: Layout, by: number): Layout {
  return {
    fields: fields.map((field) => ({ ...field, at: field.at + by })),
    spans: spans.map(({ from, to }) => ({ from: from + by, to: to + by })),
    ...(words && { words }),
  };
}

export function joined(...layouts: readonly Layout[]): Layout {
  return {
    fields: layouts.flatMap(({ fields }) => fields),
    spans: layouts.flatMap(({ spans }) => spans),
    words: layouts.flatMap(({ words }) => words ?? []),
  };
}

/** Fields one after another, of these widths. */
export function fieldsAt(at: number, widths: readonly Field['width'][], little = false): Field[] {
  const fields: Field[] = [];
  let next = at;
  for (const width of widths) {
    fields.push({ at: next, width, little });
    next += width;
  }
  return fields;
}

export function readField(bytes: Buffer, { at, width, little = false }: Field): bigint | undefined {
  if (at < 0 || at + width > bytes.length) return undefined;
  if (width === 8) return little ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at);
  return BigInt(little ? bytes.readUIntLE(at, width) : bytes.readUIntBE(at, width));
}

/** Writes the low bits of the value; nothing where the field is not inside. */
export function writeField(bytes: Buffer, field: Field, value: bigint): void {
  const { at, width, little = false } = field;
  if (at < 0 || at + width > bytes.length) return;
  const low = BigInt.asUintN(width * 8, value);
  if (width === 8) {
    if (little) bytes.writeBigUInt64LE(low, at);
    else bytes.writeBigUInt64BE(low, at);
  } else if (little) bytes.writeUIntLE(Number(low), at, width);
  else bytes.writeUIntBE(Number(low), at, width);
}
