import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeXbzrle } from '../../src/memory/xbzrle.js';

const PAGE = 4096;

/** A length as one or two bytes, low seven bits first. */
function uleb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, value >> 7];
}

/** As plain as can be: every changed stretch is a pair, and what follows the last stays. */
function encode(before: Uint8Array, after: Uint8Array): Uint8Array {
  const out: number[] = [];
  for (let at = 0; at < PAGE; ) {
    const from = at;
    while (at < PAGE && before[at] === after[at]) at++;
    if (at === PAGE) break;
    const changed = at;
    while (at < PAGE && before[at] !== after[at]) at++;
    out.push(...uleb(changed - from), ...uleb(at - changed), ...after.subarray(changed, at));
  }
  return Uint8Array.from(out);
}

const hex = (text: string): Uint8Array => Buffer.from(text.replaceAll(/#.*$|\s/gm, ''), 'hex');

describe('decodeXbzrle', () => {
  test('changes what the runs say and nothing else', () => {
    const page = new Uint8Array(PAGE).fill(0xaa);
    const delta = hex(`
      03 02 1122     # 3 bytes stay, 2 are new
      8001 01 33     # 128 stay (two bytes of length), 1 is new
    `);
    expect(decodeXbzrle(delta, page)).toBe(134);
    const expected = new Uint8Array(PAGE).fill(0xaa);
    expected.set([0x11, 0x22], 3);
    expected[133] = 0x33;
    expect(page).toEqual(expected);
  });

  test('a delta of nothing changes nothing', () => {
    const page = new Uint8Array(PAGE).fill(7);
    expect(decodeXbzrle(new Uint8Array(0), page)).toBe(0);
    expect(page).toEqual(new Uint8Array(PAGE).fill(7));
  });

  test('a whole new page, from its first byte to its last', () => {
    const page = new Uint8Array(PAGE);
    const delta = Buffer.concat([hex('00 8020'), Buffer.alloc(PAGE, 0x5c)]);
    expect(decodeXbzrle(delta, page)).toBe(PAGE);
    expect(page).toEqual(new Uint8Array(PAGE).fill(0x5c));
  });

  const changes = fc.array(
    fc.record({
      at: fc.nat(PAGE - 1),
      bytes: fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 5 }),
        fc.uint8Array({ minLength: 100, maxLength: 300 }),
      ),
    }),
    { maxLength: 12 },
  );

  test('undoes the encoder, for any change of any page', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), changes, (pattern, list) => {
        const before = Uint8Array.from(
          { length: PAGE },
          (_, i) => pattern[i % pattern.length] ?? 0,
        );
        const after = before.slice();
        for (const { at, bytes } of list) after.set(bytes.subarray(0, PAGE - at), at);
        const page = before.slice();
        decodeXbzrle(encode(before, after), page);
        expect(Buffer.compare(page, after)).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  /** Delta, offset in it of the error, words of the message. */
  const refused: [string, string, number, string][] = [
    ['one byte is no pair', '05', 0, 'ends inside a pair'],
    ['no second run', '05 02', 1, 'ends inside a pair'],
    ['no second run after two bytes of length', '8501', 2, 'ends inside a pair'],
    ['an empty first run later on', '00 01 11 00 01 22', 3, 'unchanged bytes is empty'],
    ['an empty second run', '05 00 11', 1, 'new bytes is empty'],
    ['an empty second run of two bytes', '05 8000 11', 1, 'new bytes is empty'],
    ['a length of three bytes', '808001 01 11', 0, 'more than two bytes'],
    ['a second length of three bytes', '01 808001 11', 1, 'more than two bytes'],
    ['unchanged bytes beyond the page', '8120 01 11', 0, 'unchanged bytes goes beyond'],
    ['new bytes beyond the page', 'ff1f 02 1122', 2, 'new bytes goes beyond'],
    ['new bytes behind a whole page', '8020 01 11', 2, 'new bytes goes beyond'],
    ['fewer new bytes than said', '05 03 1122', 1, 'cut off'],
  ];
  test.each(refused)('refuses %s', (_, delta, at, words) => {
    const page = new Uint8Array(PAGE);
    expect(() => decodeXbzrle(hex(delta), page, 1000)).toThrow(
      expect.objectContaining({
        name: 'FormatError',
        code: 'E_RAM',
        offset: 1000 + at,
        path: 'ram / XBZRLE page',
        message: expect.stringContaining(words),
      }),
    );
  });

  test('whatever it is given, it stays inside the page', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (delta) => {
        const around = new Uint8Array(PAGE + 200).fill(0xee);
        try {
          decodeXbzrle(delta, around.subarray(100, 100 + PAGE));
        } catch (error) {
          expect(error).toMatchObject({ code: 'E_RAM' });
        }
        expect(around.subarray(0, 100).every((byte) => byte === 0xee)).toBe(true);
        expect(around.subarray(100 + PAGE).every((byte) => byte === 0xee)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
