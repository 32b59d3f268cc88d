import { JsonScanner, type JsonToken, OrderedJsonError } from './json-scanner.js';

/** `configuration` stands first and is a few lines; nothing else is looked at. */
const MAX_LENGTH = 64 * 1024;

/**
 * The description with another length for the machine type's name: the number `size` of the field
 * `name` of `configuration` (migration/savevm.c vmstate_configuration, QEMU 9.0 and later). All
 * else stays as it is, byte for byte; so does everything in a text that has no such number.
 */
export function resizeMachineName(json: Uint8Array, length: number): Uint8Array {
  const place = placeOfSize(json);
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

function placeOfSize(json: Uint8Array): Place | undefined {
  const scanner = new JsonScanner(json.subarray(0, MAX_LENGTH));
  let name: unknown;
  try {
    for (const path of literals(scanner)) {
      const { value, at, end } = scanner;
      const [top, list, index, key, ...rest] = path;
      if (top !== 'configuration') return undefined;
      if (list !== 'fields' || typeof index !== 'number' || rest.length > 0) continue;
      if (key === 'name') name = value;
      if (key === 'size' && name === 'name' && typeof value === 'number') {
        return { at, length: end - at };
      }
    }
  } catch (error) {
    if (!(error instanceof OrderedJsonError)) throw error;
  }
  return undefined;
}

/** Keys and indices that lead to each string, number or word, which the scanner is at then. */
function* literals(scanner: JsonScanner): Generator<readonly (string | number)[]> {
  const path: (string | number)[] = [];
  let before: JsonToken = 'blank';
  for (let token = scanner.next(); token !== 'end'; token = scanner.next()) {
    if (token === 'blank') continue;
    const last = path.length - 1;
    const inner = path[last];
    if (token === '{') path.push('');
    else if (token === '[') path.push(0);
    else if (token === '}' || token === ']') path.pop();
    else if (token === ',' && typeof inner === 'number') path[last] = inner + 1;
    else if (token === 'string' && typeof inner === 'string' && before !== ':') {
      path[last] = String(scanner.value);
    } else if (token === 'string' || token === 'value') yield path;
    before = token;
  }
}
