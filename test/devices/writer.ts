/**
 * Writes payloads and descriptions as QEMU does (migration/vmstate.c vmstate_save_state_v,
 * migration/vmstate-types.c), side by side, and says what a reader should find. Independent of the
 * code under test. The JSON is text, because QEMU's has keys that repeat.
 */

/** What a reader should find: a scalar, hex digits, null, a list, or a state. */
export type Expected = unknown;

export interface Encoded {
  /** Field objects, separated by commas; for a state, its members. */
  readonly json: string;
  readonly bytes: Buffer;
  readonly expected: Expected;
}

export interface EncodedState extends Encoded {
  readonly vmsd: string;
  readonly version: number;
}

const q = JSON.stringify;

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  return bytes;
}

const object = (name: string, type: string, size: number, more: string[] = []): string =>
  `{${[`"name": ${q(name)}`, ...more, `"type": ${q(type)}`, `"size": ${size}`].join(', ')}}`;

/** One value. `expected` is its value; hex digits for bytes. */
export function value(name: string, type: string, bytes: Buffer, expected?: Expected): Encoded {
  return {
    json: object(name, type, bytes.length),
    bytes,
    expected: [name, expected ?? bytes.toString('hex')],
  };
}

/** An array that is described by one object with the size of the first element. */
export function array(name: string, type: string, items: Buffer[], expected: Expected[]): Encoded {
  const size = items[0]?.length ?? 0;
  return {
    json: object(name, type, size, items.length > 1 ? [`"array_len": ${items.length}`] : []),
    bytes: Buffer.concat(items),
    expected: [name, items.length > 1 ? expected : expected[0]],
  };
}

export function state(
  vmsd: string,
  version: number,
  fields: Encoded[],
  subsections: EncodedState[] = [],
): EncodedState {
  const subs = subsections.map((s) => `{${s.json}}`).join(', ');
  const headers = subsections.map((s) =>
    Buffer.concat([Buffer.of(5, s.vmsd.length), Buffer.from(s.vmsd), u32(s.version), s.bytes]),
  );
  return {
    vmsd,
    version,
    json:
      `"vmsd_name": ${q(vmsd)}, "version": ${version}, ` +
      `"fields": [${fields.map((f) => f.json).join(', ')}]` +
      (subsections.length > 0 ? `, "subsections": [${subs}]` : ''),
    bytes: Buffer.concat([...fields.map((f) => f.bytes), ...headers]),
    expected: {
      vmsd,
      version,
      fields: fields.map((f) => f.expected),
      subsections: subsections.map((s) => s.expected),
    },
  };
}

const inStruct = (s: EncodedState): string => `"struct": {${s.json}}`;

function structObject(name: string, s: EncodedState, more: string[]): string {
  const members = [`"name": ${q(name)}`, ...more, '"type": "struct"', inStruct(s)];
  return `{${members.join(', ')}, "size": ${s.bytes.length}}`;
}

export function struct(name: string, s: EncodedState): Encoded {
  return { json: structObject(name, s, []), bytes: s.bytes, expected: [name, s.expected] };
}

/** Structs of one object each. QEMU 9.2.4 and later leave out the last index. */
export function indexed(name: string, items: EncodedState[], lastIndex: boolean): Encoded {
  const last = items.length - 1;
  return {
    json: items
      .map((s, i) => structObject(name, s, i < last || lastIndex ? [`"index": ${i}`] : []))
      .join(', '),
    bytes: Buffer.concat(items.map((s) => s.bytes)),
    expected: [name, items.map((s) => s.expected)],
  };
}

/** A field that has the keys of states in itself, once for each. */
export function inline(
  name: string,
  type: string,
  states: EncodedState[],
  bytes: Buffer,
  expected: Expected,
): Encoded {
  const members = [`"name": ${q(name)}`, `"type": ${q(type)}`, ...states.map((s) => s.json)];
  const json = `{${members.join(', ')}, "size": ${bytes.length}}`;
  return { json, bytes, expected: [name, expected] };
}

/** put_qtailq, put_qlist */
export function list(name: string, type: 'qtailq' | 'qlist', items: EncodedState[]): Encoded {
  const bytes = [...items.flatMap((s) => [Buffer.of(1), s.bytes]), Buffer.of(0)];
  return inline(
    name,
    type,
    items,
    Buffer.concat(bytes),
    items.map((s) => s.expected),
  );
}

/** put_gtree; without a state, a key is a u64. */
export function tree(name: string, items: [EncodedState | bigint, EncodedState][]): Encoded {
  const states: EncodedState[] = [];
  const bytes = [u32(items.length)];
  const expected: Expected[] = [];
  for (const [key, item] of items) {
    if (typeof key !== 'bigint') states.push(key);
    states.push(item);
    bytes.push(Buffer.of(1), typeof key === 'bigint' ? u64(key) : key.bytes, item.bytes);
    expected.push([typeof key === 'bigint' ? key : key.expected, item.expected]);
  }
  return inline(name, 'gtree', states, Buffer.concat([...bytes, Buffer.of(0)]), expected);
}

export type PointerEra = '<=9.1' | '>=9.2.4';

/**
 * An array of pointers to structs, described as either era does. `compressible` is whether the
 * struct's size is always the same (vmsd_can_compress).
 */
export function pointers(
  name: string,
  items: (EncodedState | null)[],
  era: PointerEra,
  compressible: boolean,
): Encoded {
  const n = items.length;
  const objects: string[] = [];
  let described = true;
  let previous = false;
  for (const [i, item] of items.entries()) {
    const isNull = item === null;
    let most = era === '<=9.1' ? n : n - i;
    if (era !== '<=9.1' && isNull !== previous) {
      previous = isNull;
      described = true;
      const other = items.findIndex((next, j) => j > i && (next === null) !== isNull);
      if (other >= 0) most = other - i;
    }
    if (described) {
      const fake = isNull && era !== '<=9.1';
      const many = compressible || fake ? `"array_len": ${most}` : `"index": ${i}`;
      const more = most > 1 ? [many] : [];
      if (item !== null) objects.push(structObject(name, item, more));
      else if (fake) objects.push(object(name, 'nullptr', 1, more));
      else {
        const members = [`"name": ${q(name)}`, ...more, '"type": "struct"', '"struct": {}'];
        objects.push(`{${members.join(', ')}, "size": 1}`);
      }
    }
    if (compressible) described = false;
  }
  return {
    json: objects.join(', '),
    bytes: Buffer.concat(items.map((item) => item?.bytes ?? Buffer.of(0x30))),
    expected: [name, items.map((item) => item?.expected ?? null)],
  };
}

/** The text of a description with these devices. */
export function vmdesc(devices: { name: string; instance?: number; json: string }[]): Buffer {
  const list = devices.map(
    (d) => `{"name": ${q(d.name)}, "instance_id": ${d.instance ?? 0}, ${d.json}}`,
  );
  return Buffer.from(`{"page_size": 4096, "devices": [${list.join(', ')}]}`);
}
