import jsonc from 'jsonc-parser';

/** `configuration` stands first and is a few lines; nothing else is looked at. */
const MAX_DEPTH = 8;

/**
 * The description with another length for the machine type's name: the number `size` of the field
 * `name` of `configuration` (migration/savevm.c vmstate_configuration, QEMU 9.0 and later). All
 * else stays as it is, byte for byte; so does everything in a text that has no such number.
 */
export function resizeMachineName(json: Uint8Array, length: number): Uint8Array {
  // One character a byte, so that positions are the same.
  const text = Buffer.from(json.buffer, json.byteOffset, json.length).toString('latin1');
  const place = placeOfSize(text);
  if (place === undefined) return json;
  return Buffer.concat([
    json.subarray(0, place.at),
    Buffer.from(String(length)),
    json.subarray(place.at + place.length),
  ]);
}

interface Place {
  readonly at: number;
  readonly length: number;
}

/** Ends the parser's walk, which has no other end. */
const SEEN = Symbol('seen enough');

function placeOfSize(text: string): Place | undefined {
  let place: Place | undefined;
  let depth = 0;
  let name: unknown;
  const deeper = (): void => {
    if (++depth > MAX_DEPTH) throw SEEN;
  };
  const out = (): void => {
    depth--;
  };
  try {
    jsonc.visit(text, {
      onObjectBegin: deeper,
      onObjectEnd: out,
      onArrayBegin: deeper,
      onArrayEnd: out,
      onObjectProperty: (key) => {
        if (depth === 1 && key !== 'configuration') throw SEEN;
      },
      onLiteralValue: (value, at, length, _line, _column, path) => {
        const [top, list, index, key, ...rest] = path();
        if (top !== 'configuration' || list !== 'fields' || rest.length > 0) return;
        if (typeof index !== 'number') return;
        if (key === 'name') name = value;
        if (key === 'size' && name === 'name' && typeof value === 'number') place = { at, length };
        if (place !== undefined) throw SEEN;
      },
      onError: () => {
        throw SEEN;
      },
    });
  } catch (error) {
    if (error !== SEEN) throw error;
  }
  return place;
}
