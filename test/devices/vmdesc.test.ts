import { describe, expect, it } from 'vitest';
import { parseVmdesc } from '../../src/qevm/vmdesc.js';

const bytes = (text: string): Buffer => Buffer.from(text);

describe('the description', () => {
  it('is refused as FormatError', () => {
    expect(() => parseVmdesc(bytes('{"devices": [}'), 100)).toThrow(
      expect.objectContaining({ code: 'E_VMDESC', offset: 105 }),
    );
    expect(() => parseVmdesc(bytes('[]'), 0)).toThrow("it has no list 'devices'");
    expect(() => parseVmdesc(bytes('{"devices": [{}]}'), 0)).toThrow('devices[0] has no name');
  });

  it.each([
    ['no fields', '"vmsd_name": "d"'],
    ['a negative size', '"fields": [{"name": "a", "type": "b", "size": -1}]'],
    ['a fraction', '"fields": [{"name": "a", "type": "b", "size": 1.5}]'],
    ['an array_len of text', '"fields": [{"name": "a", "size": 1, "array_len": "2"}]'],
    ['a subsection without name', '"fields": [], "subsections": [{"fields": []}]'],
  ])('tells no length of a device with %s', (_, members) => {
    const { devices } = parseVmdesc(bytes(`{"devices": [{"name": "d", ${members}}]}`), 0);
    expect(devices).toEqual([
      { name: 'd', instance: 0, payloadLength: undefined, state: undefined },
    ]);
  });

  it('counts arrays and the headers of subsections', () => {
    const text = `{"page_size": 4096, "devices": [{"name": "x/d", "instance_id": 3, "vmsd_name": "d",
      "version": 1, "fields": [{"name": "a", "array_len": 4, "type": "uint16", "size": 2}],
      "subsections": [{"vmsd_name": "d/s", "version": 1, "fields": [
        {"name": "b", "type": "uint8", "size": 1}]}]}]}`;
    expect(parseVmdesc(bytes(text), 7)).toMatchObject({
      offset: 7,
      length: text.length,
      pageSize: 4096,
      devices: [{ name: 'x/d', instance: 3, payloadLength: 8 + 1 + 1 + 3 + 4 + 1 }],
    });
  });
});
