import { describe, expect, it } from 'vitest';
import { stateLength } from '../../src/qevm/description.js';
import { decode, decodeJson, describe1, found } from './reading.js';
import { type EncodedState, pointers, state, struct, u32, value } from './writer.js';

const point = (n: number): EncodedState =>
  state('point', 1, [value('x', 'uint32', u32(n), n), value('y', 'uint8', Buffer.of(n), n)]);

const PATTERNS: (number | null)[][] = [
  [1, 2, 3],
  [1, null],
  [null, 1],
  [null, null],
  [1, null, null, 2],
  [null, null, 1],
  [1, null, 2, null, 3],
  [null, 1, 1, null, null, null, 2, 3],
  [null, null, null],
];
const label = (pattern: (number | null)[]): string => pattern.map((n) => n ?? 'NULL').join(' ');
const items = (pattern: (number | null)[]) => pattern.map((n) => (n === null ? n : point(n)));

describe.each(PATTERNS.map((p) => [label(p), p] as const))('pointers %s', (_, pattern) => {
  const device = (era: '<=9.1' | '>=9.2.4', compressible: boolean): EncodedState =>
    state('dev', 1, [
      value('before', 'uint16', Buffer.of(0, 1), 1),
      pointers('p', items(pattern), era, compressible),
      value('after', 'uint32', u32(0x30303030), 0x30303030),
    ]);

  it.each([true, false])('QEMU >= 9.2.4, compressible: %s', (compressible) => {
    const d = device('>=9.2.4', compressible);
    const decoded = decode(d);
    expect(stateLength(describe1(d.json))).toBe(d.bytes.length);
    expect(decoded.warnings).toEqual([]);
    expect(found(decoded.state)).toEqual(d.expected);
  });

  it('QEMU <= 9.1, one object each', () => {
    const d = device('<=9.1', false);
    const decoded = decode(d);
    expect(decoded.warnings).toEqual([]);
    expect(found(decoded.state)).toEqual(d.expected);
  });

  it('QEMU <= 9.1, one object for all', () => {
    const d = device('<=9.1', true);
    const decoded = decode(d);
    if (pattern[0] === null && pattern.some((n) => n !== null)) {
      // Nothing tells how long the elements are; what stands around them is read nevertheless.
      expect(decoded.warnings).toMatchObject([{ code: 'W_DESCRIPTION', path: 'dev', offset: 2 }]);
      expect(found(decoded.state)).toMatchObject({
        fields: [
          ['before', 1],
          ['p', { undecoded: expect.any(String) }],
          ['after', 0x30303030],
        ],
      });
      expect(decoded.undecoded).toBe(d.bytes.length - 6);
      return;
    }
    expect(found(decoded.state)).toEqual(d.expected);
    const codes = pattern.includes(null) && pattern[0] !== null ? ['W_NULL_POINTERS'] : [];
    expect(decoded.warnings.map((w) => w.code)).toEqual(codes);
  });
});

describe('wrong lengths', () => {
  const blob = (n: number): EncodedState =>
    state('blob', 1, [value('b', 'buffer', Buffer.alloc(n, n))]);
  const array = [blob(2), blob(5), blob(1)];
  const varying = {
    json: struct('v', blob(2)).json.replace('"type"', '"array_len": 3, "type"'),
    bytes: Buffer.concat(array.map((b) => b.bytes)),
    expected: undefined,
  };
  const sub = state('dev/sub', 3, [value('s', 'uint8', Buffer.of(9), 9)]);

  it('finds the subsections behind an array of which only the first element was measured', () => {
    const decoded = decode(state('dev', 1, [value('a', 'uint32', u32(1)), varying], [sub]));
    expect(decoded.undecoded).toBe(8);
    expect(decoded.warnings).toEqual([
      {
        code: 'W_DESCRIPTION',
        offset: 4,
        path: 'dev',
        message:
          'the fields take 12 bytes and not the described 10; 8 bytes cannot be divided among v',
      },
    ]);
    expect(decoded.state.subsections.map(found)).toEqual([sub.expected]);
  });

  it('confines the damage to the struct in which it is', () => {
    const inner = state('inner', 1, [varying]);
    const decoded = decode(
      state('dev', 1, [struct('i', inner), value('z', 'uint8', Buffer.of(1))]),
    );
    expect(decoded.undecoded).toBe(8);
    expect(decoded.warnings[0]?.path).toBe('dev / i');
  });

  it('reports a subsection of another version, and one that is not there', () => {
    const device = state('dev', 1, [value('a', 'uint32', u32(1))], [sub]);
    const older = Buffer.from(device.bytes);
    older.writeUInt32BE(2, 4 + 2 + 7);
    const decoded = decodeJson(device.json, older);
    expect(decoded.warnings).toMatchObject([{ code: 'W_SUBSECTION', path: 'dev / dev/sub' }]);
    expect(decoded.state.subsections[0]).toMatchObject({ version: 2 });

    const without = decodeJson(device.json, device.bytes.subarray(0, 4));
    expect(without.warnings).toMatchObject([{ code: 'W_SUBSECTION' }]);
    expect(without.state.fields).toMatchObject([{ name: 'a', value: 1 }]);
  });

  it('keeps bytes that are left over', () => {
    const device = state('dev', 1, [value('a', 'uint32', u32(7), 7)]);
    const decoded = decodeJson(device.json, Buffer.concat([device.bytes, Buffer.of(1, 2)]));
    expect(found(decoded.state)).toMatchObject({
      fields: [
        ['a', 7],
        ['', { undecoded: '0102' }],
      ],
    });
    expect(decoded.warnings[0]?.message).toContain('2 bytes are left over');
  });

  it.each([
    ['no end mark', '01 0000000105 01'],
    ['a mark that is none', '02 0000000105 00'],
    ['too short', '01'],
    ['empty', ''],
  ])('does not follow a list with %s', (_, digits) => {
    const bytes = Buffer.from(digits.replaceAll(' ', ''), 'hex');
    const json = `"vmsd_name": "d", "version": 1, "fields": [{"name": "l", "type": "qtailq",
      ${point(1).json}, ${point(2).json}, "size": ${bytes.length}}]`;
    const decoded = decodeJson(json, bytes);
    expect(decoded.undecoded).toBeGreaterThanOrEqual(bytes.length > 0 ? 1 : 0);
  });
});

describe('hostile descriptions', () => {
  const dev = (fields: string): string => `"vmsd_name": "d", "version": 1, "fields": [${fields}]`;
  const structs = (count: number, size: number, inner: string): string =>
    dev(
      `{"name": "a", "array_len": ${count}, "type": "struct", "struct": {${inner}}, "size": ${size}}`,
    );
  const byte = dev('{"name": "v", "type": "uint8", "size": 1}');
  const payload = Buffer.alloc(1 << 18, 0x30);

  it.each([
    ['2^53 - 1 elements of no bytes', structs(Number.MAX_SAFE_INTEGER, 0, dev(''))],
    ['2^53 - 1 elements of a byte', structs(Number.MAX_SAFE_INTEGER, 1, byte)],
    ['2^53 - 1 elements of many', structs(Number.MAX_SAFE_INTEGER, 2 ** 40, byte)],
    [
      'elements that are not what they say',
      structs(1 << 18, 1, dev('{"name":"v","type":"uint64","size":8}')),
    ],
  ])('are decoded in bounds: %s', (_, json) => {
    const decoded = decodeJson(json, payload);
    expect(decoded.warnings.length).toBeGreaterThan(0);
    expect(decoded.warnings.length).toBeLessThanOrEqual(101);
    expect(decoded.undecoded).toBeLessThanOrEqual(payload.length);
  });

  it('says that elements have no bytes', () => {
    const decoded = decodeJson(structs(1e15, 0, dev('')), Buffer.alloc(0));
    expect(decoded.warnings).toMatchObject([{ code: 'W_DESCRIPTION', path: 'dev / a' }]);
    expect(decoded.state.fields).toMatchObject([{ kind: 'array', count: 1e15, elements: [] }]);
  });

  it('stops at the limit of nodes, with every byte in the tree', () => {
    const decoded = decodeJson(structs(payload.length, 1, byte), payload, {
      limits: { deviceNodes: 100 },
    });
    expect(decoded.warnings).toMatchObject([{ code: 'W_DEVICE_LIMIT' }]);
    expect(decoded.undecoded).toBeGreaterThan(payload.length - 100);
  });

  it('does not search for many subsections', () => {
    const subs = Array.from({ length: 10_000 }, (_, i) => `{${state(`d/${i}`, 1, []).json}}`);
    const started = performance.now();
    const decoded = decodeJson(`${byte}, "subsections": [${subs.join(',')}]`, payload);
    expect(decoded.warnings).toHaveLength(100);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});
