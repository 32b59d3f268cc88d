import { describe, expect, it } from 'vitest';
import { deviceToJSON } from '../../src/devices/json.js';
import { decode, decodeJson } from './reading.js';
import { array, list, pointers, state, struct, tree, u32, u64, value } from './writer.js';

/** What `JSON.stringify` makes of the fields. */
function fieldsOf(tree: ReturnType<typeof decode>, options = {}): Record<string, unknown>[] {
  return JSON.parse(JSON.stringify(deviceToJSON(tree, options))).state.fields;
}

const one = state('one', 1, [value('n', 'uint8', Buffer.of(1))]);

describe('deviceToJSON', () => {
  it('writes 64-bit integers as text that BigInt reads', () => {
    const fields = fieldsOf(
      decode(
        state('d', 1, [
          value('u', 'uint64', u64(2n ** 64n - 1n)),
          value('e', 'int64 equal', u64(16n)),
          value('i', 'int64', u64(-2n)),
          value('t', 'timer', u64(-1n)),
          value('n', 'uint32', u32(0xffffffff)),
          value('b', 'bool', Buffer.of(1)),
          array('us', 'uint64', [u64(1n), u64(2n)], []),
          array('is', 'int64', [u64(-1n), u64(2n)], []),
          value('m', 'bitmap', u64(5n)),
        ]),
      ),
    );
    expect(fields.map((f) => f.value)).toEqual([
      '0xffffffffffffffff',
      '0x10',
      '-2',
      '-1',
      0xffffffff,
      true,
      ['0x1', '0x2'],
      ['-1', '2'],
      ['0x5'],
    ]);
    expect(fields[1]).toEqual({
      name: 'e',
      type: 'int64 equal',
      offset: 8,
      size: 8,
      value: '0x10',
    });
  });

  it('shows text in buffers, and cuts what is long', () => {
    const fields = fieldsOf(
      decode(
        state('globalstate', 1, [
          value('runstate', 'buffer', Buffer.from('paused\0\0')),
          value('not', 'buffer', Buffer.from('paused\0x')),
          value('long', 'buffer', Buffer.alloc(300, 1)),
          array('many', 'uint8', Array(9).fill(Buffer.of(7)), []),
        ]),
      ),
      { maxBytes: 8, maxValues: 4 },
    );
    expect(fields).toMatchObject([
      { value: '7061757365640000', text: 'paused' },
      { value: '7061757365640078' },
      { value: '0101010101010101', truncated: true, size: 300 },
      { value: [7, 7, 7, 7], truncated: true, size: 9 },
    ]);
    expect(fields[1]).not.toHaveProperty('text');
  });

  it('writes compounds', () => {
    const device = state('d', 1, [
      struct('s', one),
      list('l', 'qtailq', [one, one]),
      tree('t', [[7n, one]]),
      pointers('p', [one, null], '>=9.2.4', true),
    ]);
    const inner = { vmsd: 'one', version: 1, fields: [{ name: 'n', value: 1 }] };
    expect(fieldsOf(decode(device))).toMatchObject([
      { name: 's', state: inner },
      { name: 'l', elements: [{ name: '[0]', state: inner }, { state: inner }] },
      { name: 't', entries: [{ key: { value: '0x7' }, value: { state: inner } }] },
      { name: 'p', elements: [{ state: inner }, { name: '[1]', type: 'nullptr', value: null }] },
    ]);
  });

  it('keeps names that repeat or mean something to JavaScript', () => {
    const names = ['__proto__', 'x', 'constructor', 'x', 'toJSON'];
    const device = state(
      '__proto__',
      1,
      names.map((name) => value(name, 'uint8', Buffer.of(1))),
    );
    const text = JSON.stringify(deviceToJSON(decode(device)));
    const { state: root } = JSON.parse(text);
    expect(root.vmsd).toBe('__proto__');
    expect(root.fields.map((f: { name: string }) => f.name)).toEqual(names);
  });

  it('reports what was not decoded', () => {
    const json = deviceToJSON(decodeJson(one.json, Buffer.of(1, 2, 3)));
    expect(JSON.parse(JSON.stringify(json))).toMatchObject({
      length: 3,
      undecoded: 2,
      state: {
        fields: [
          { name: 'n', value: 1 },
          { undecoded: '0203', offset: 1 },
        ],
      },
      warnings: [{ code: 'W_DESCRIPTION', offset: 1, path: 'dev' }],
    });
  });
});
