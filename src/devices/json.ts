import type { DeviceNode, DeviceTree, StateNode } from './node.js';
import { type Scalar, type ScalarArray, scalarType } from './scalar.js';

export interface DeviceJsonOptions {
  /** Bytes of a buffer that are shown at most. Default 256. */
  readonly maxBytes?: number | undefined;
  /** Scalars of an array that are shown at most. Default 4096. */
  readonly maxValues?: number | undefined;
}

/** A value of JSON. Objects have no prototype; names from the stream are never keys of them. */
export type PlainJson =
  | string
  | number
  | boolean
  | null
  | PlainJson[]
  | { [key: string]: PlainJson };

type PlainObject = { [key: string]: PlainJson };

/**
 * A device's tree as plain data for `JSON.stringify`. Fields are a list, so that order, offsets and
 * repeated names stay, and a name such as `__proto__` is nothing special:
 *
 * `{"length", "undecoded", "state": S, "warnings"}`, where
 * - S, a state, is `{"vmsd", "version", "offset", "size", "fields": [F…], "subsections"?: [S…]}`;
 * - F, a field, is `{"name", "type", "offset", "size"}` and one of
 *   - `"value"`: an integer of up to 32 bits as number, `bool` as boolean, an unsigned one of 64
 *     bits as `"0x…"`, a signed one of 64 bits in decimal as string (`BigInt()` reads both), a list
 *     of these for an array, words `"0x…"` for a bitmap, null for a NULL pointer, hexadecimal
 *     digits for bytes (with `"text"` beside it when they are printable ASCII, padded with NUL);
 *   - `"elements": [F…]` for arrays and lists;
 *   - `"state": S` for structs;
 *   - `"entries": [{"key": F, "value": F}…]` for trees;
 *   - `"undecoded"`: hexadecimal digits of what the description does not explain.
 *
 * Where a limit cuts `value` or `undecoded`, `"truncated": true` stands beside it; `size` is always
 * the full one.
 */
export function deviceToJSON(tree: DeviceTree, options: DeviceJsonOptions = {}): PlainObject {
  const writer = new Writer(options.maxBytes ?? 256, options.maxValues ?? 4096);
  return plain({
    length: tree.length,
    undecoded: tree.undecoded,
    state: writer.state(tree.state),
    warnings: tree.warnings.map(({ code, offset, path, message }) =>
      plain({ code, offset, path, message }),
    ),
  });
}

function plain(members: PlainObject): PlainObject {
  return Object.assign(Object.create(null) as PlainObject, members);
}

class Writer {
  constructor(
    readonly maxBytes: number,
    readonly maxValues: number,
  ) {}

  state(node: StateNode): PlainObject {
    const { vmsdName, version, offset, size, fields, subsections } = node;
    return plain({
      ...(vmsdName === undefined ? {} : { vmsd: vmsdName }),
      ...(version === undefined ? {} : { version }),
      offset,
      size,
      fields: fields.map((field) => this.field(field)),
      ...(subsections.length === 0 ? {} : { subsections: subsections.map((s) => this.state(s)) }),
    });
  }

  field(node: DeviceNode): PlainObject {
    const { name, type, offset, size } = node;
    return plain({ name, type, offset, size, ...this.#content(node) });
  }

  #content(node: DeviceNode): PlainObject {
    const { type, size } = node;
    switch (node.kind) {
      case 'scalar':
        return { value: scalar(node.value, scalarType(type, size)?.signed ?? false) };
      case 'scalars':
        return this.#values(node.values);
      case 'bitmap':
        return this.#values(node.words);
      case 'bytes':
        return { ...this.#hex('value', node.bytes), ...text(node.bytes) };
      case 'undecoded':
        return this.#hex('undecoded', node.bytes);
      case 'null':
        return { value: null };
      case 'array':
        return {
          ...(node.count === node.elements.length ? {} : { count: node.count }),
          elements: node.elements.map((element) => this.field(element)),
        };
      case 'list':
        return { elements: node.elements.map((element) => this.field(element)) };
      case 'struct':
        return { state: this.state(node.state) };
      case 'tree': {
        const rest = node.undecoded;
        return {
          entries: node.entries.map(({ key, value }) =>
            plain({ key: this.field(key), value: this.field(value) }),
          ),
          ...(rest === undefined ? {} : this.#hex('undecoded', rest.bytes)),
        };
      }
    }
  }

  #values(values: ScalarArray): PlainObject {
    const list: PlainJson[] = [];
    for (const value of values) {
      if (list.length >= this.maxValues) return { value: list, truncated: true };
      list.push(scalar(value, values.type.signed));
    }
    return { value: list };
  }

  #hex(key: 'value' | 'undecoded', bytes: Uint8Array): PlainObject {
    const shown = Buffer.from(bytes.subarray(0, this.maxBytes)).toString('hex');
    return { [key]: shown, ...(bytes.length > this.maxBytes ? { truncated: true } : {}) };
  }
}

function scalar(value: Scalar, signed: boolean): PlainJson {
  if (typeof value !== 'bigint') return value;
  return signed ? value.toString() : `0x${value.toString(16)}`;
}

/** Strings in buffers of fixed size, such as the run state. */
function text(bytes: Uint8Array): PlainObject {
  const nul = bytes.indexOf(0);
  const string = nul < 0 ? bytes : bytes.subarray(0, nul);
  const padded = nul < 0 || bytes.subarray(nul).every((byte) => byte === 0);
  const printable = string.every((byte) => byte >= 0x20 && byte < 0x7f);
  if (string.length === 0 || string.length > 4096 || !padded || !printable) return {};
  return { text: Buffer.from(string).toString('latin1') };
}
