import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { anyDevice, point } from './any-device.js';
import { decode, found } from './reading.js';
import {
  array,
  type Encoded,
  type EncodedState,
  indexed,
  inline,
  list,
  state,
  struct,
  tree,
  u32,
  u64,
  value,
} from './writer.js';

const hex = (digits: string): Buffer => Buffer.from(digits.replaceAll(' ', ''), 'hex');

function reads(device: EncodedState): void {
  const decoded = decode(device);
  expect(found(decoded.state)).toEqual(device.expected);
  expect(decoded.warnings).toEqual([]);
  expect(decoded.undecoded).toBe(0);
  expect(decoded.length).toBe(device.bytes.length);
}

describe('values', () => {
  it.each<[type: string, bytes: string, expected: unknown]>([
    ['bool', '00', false],
    ['bool', '01', true],
    ['int8', 'ff', -1],
    ['int16', 'fffe', -2],
    ['int32', '80000000', -0x80000000],
    ['int32 equal', '00000007', 7],
    ['int32 le', '00000008', 8],
    ['int64', 'ffffffffffffffff', -1n],
    ['uint8', 'ff', 0xff],
    ['uint8 equal', '03', 3],
    ['uint16', 'fffe', 0xfffe],
    ['uint16 equal', '0102', 0x102],
    ['uint32', '80000000', 0x80000000],
    ['uint32 equal', 'ffffffff', 0xffffffff],
    ['uint64', '8000000000001033', 0x8000000000001033n],
    // vmstate_info_uint64_equal has this name: it is unsigned.
    ['int64 equal', 'ffffffffffffffff', 0xffffffffffffffffn],
    ['timer', 'ffffffffffffffff', -1n],
    ['timer', '000000003b9aca00', 1_000_000_000n],
    ['CPU_Double_U', '3ff0000000000000', 0x3ff0000000000000n],
    ['float64', '3ff0000000000000', 0x3ff0000000000000n],
    ['fpr', '4000000000000000', 0x4000000000000000n],
    ['buffer', '0011223344', '0011223344'],
    ['unused_buffer', '00000000', '00000000'],
    ['pci config', '11af', '11af'],
    ['unknown', '0102', '0102'],
    ['bitmap', '0000000000000001 8000000000000000', [1n, 0x8000000000000000n]],
    ['nullptr', '30', null],
  ])('%s %s', (type, bytes, expected) => {
    const decoded = decode(state('dev', 1, [value('x', type, hex(bytes))]));
    expect(found(decoded.state)).toMatchObject({ fields: [['x', expected]] });
    expect(decoded.warnings).toEqual([]);
  });

  it('gives an SLB entry its two words', () => {
    const bytes = Buffer.concat([u64(0xc000000008000000n), u64(0x400ea1b217000510n)]);
    const [slb] = decode(state('cpu/slb', 1, [value('slb', 'slbe', bytes)])).state.fields;
    expect(slb).toMatchObject({
      kind: 'struct',
      state: {
        fields: [
          { name: 'esid', offset: 0, value: 0xc000000008000000n },
          { name: 'vsid', offset: 8, value: 0x400ea1b217000510n },
        ],
      },
    });
  });

  it('leaves a value of the wrong width undivided, with a warning', () => {
    const decoded = decode(state('dev', 1, [value('x', 'uint32', hex('010203'))]));
    expect(found(decoded.state)).toMatchObject({ fields: [['x', '010203']] });
    expect(decoded.warnings).toMatchObject([{ code: 'W_DESCRIPTION', path: 'dev / x', offset: 0 }]);
  });

  it('keeps offsets and sizes', () => {
    const [a, b] = decode(
      state('dev', 1, [
        value('a', 'uint16', hex('0001')),
        array('b', 'uint32', [u32(1), u32(2)], []),
      ]),
    ).state.fields;
    expect(a).toMatchObject({ offset: 0, size: 2 });
    expect(b).toMatchObject({ offset: 2, size: 8, kind: 'scalars' });
  });
});

describe('compounds', () => {
  it('reads arrays of scalars, of structs, and of one', () => {
    const points = [point(1), point(2), point(3)];
    const compressed: Encoded = {
      json: struct('p', point(1)).json.replace('"type"', '"array_len": 3, "type"'),
      bytes: Buffer.concat(points.map((p) => p.bytes)),
      expected: ['p', points.map((p) => p.expected)],
    };
    reads(
      state('dev', 1, [
        array('a', 'uint16', [hex('0001'), hex('0002')], [1, 2]),
        array('one', 'uint16', [hex('0003')], [3]),
        compressed,
        value('end', 'uint8', Buffer.of(9), 9),
      ]),
    );
  });

  it.each([true, false])('reads arrays with an index each; the last has one: %s', (last) => {
    const sub = state('item/more', 1, [value('m', 'uint8', Buffer.of(7), 7)]);
    const items = [1, 2, 3].map((n) =>
      state('item', 1, [value('n', 'uint8', Buffer.of(n), n)], n === 2 ? [sub] : []),
    );
    reads(state('dev', 1, [indexed('items', items, last), value('z', 'bool', Buffer.of(1), true)]));
  });

  it('reads subsections, and subsections of these', () => {
    const inner = state('dev/a/b', 4, [value('i', 'uint32', u32(5), 5)]);
    const outer = state('dev/a', 3, [value('o', 'uint8', Buffer.of(6), 6)], [inner]);
    const empty = state('dev/empty', 1, []);
    const device = state('dev', 1, [struct('s', point(4))], [outer, empty]);
    reads(device);
    const [a] = decode(device).state.subsections;
    expect(a).toMatchObject({ offset: 5 + 2 + 5 + 4, size: 1 + 2 + 7 + 4 + 4 });
  });

  it.each(['qtailq', 'qlist'] as const)(
    'reads a %s, of which each element repeats keys',
    (type) => {
      const items = [[1, 2], [3], []].map((numbers, i) =>
        state('entry', 1, [value(`n${i}`, 'buffer', Buffer.from(numbers))]),
      );
      reads(state('dev', 1, [list('l', type, items), value('z', 'uint8', Buffer.of(1), 1)]));
      reads(state('dev', 1, [list('l', type, [])]));
    },
  );

  it('reads trees with keys of their own and with direct keys', () => {
    reads(
      state('dev', 1, [
        tree('own', [
          [point(1), point(2)],
          [point(3), point(4)],
        ]),
        tree('direct', [
          [0x1000n, point(5)],
          [0x2000n, point(6)],
        ]),
        tree('none', []),
      ]),
    );
  });

  it.each(['vstruct', 'tmp', 'something'])(
    'reads a %s, which has the keys in the field',
    (type) => {
      const p = point(8);
      reads(state('dev', 1, [inline('v', type, [p], p.bytes, p.expected)]));
    },
  );

  it('reads a device of the old style', () => {
    const bytes = Buffer.from('opaque');
    const json = `"size": 6, "fields": [{"name": "data", "size": 6, "type": "buffer"}]`;
    const { state: root, warnings } = decode({ ...state('x', 1, []), json, bytes });
    expect(found(root)).toEqual({
      vmsd: undefined,
      version: undefined,
      fields: [['data', bytes.toString('hex')]],
      subsections: [],
    });
    expect(warnings).toEqual([]);
  });
});

describe('any device', () => {
  it('is read as it was written', () => {
    fc.assert(fc.property(anyDevice, reads), { numRuns: 300 });
  });

  it('never fails or reads outside with a payload of another length', () => {
    fc.assert(
      fc.property(anyDevice, fc.integer({ min: -20, max: 20 }), ({ bytes, ...rest }, n) => {
        const other = n < 0 ? bytes.subarray(0, n) : Buffer.concat([bytes, Buffer.alloc(n)]);
        const decoded = decode({ ...rest, bytes: other });
        expect(decoded.length).toBe(other.length);
        expect(decoded.undecoded).toBeLessThanOrEqual(other.length);
        if (other.length !== bytes.length) expect(decoded.warnings.length).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});
