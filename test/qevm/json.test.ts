import fc from 'fast-check';
import jsonc from 'jsonc-parser';
import { describe, expect, it } from 'vitest';
import { atOnce, inTurns } from '../../src/bytes/pace.js';
import {
  type OrderedJson,
  type OrderedJsonLimits,
  OrderedObject,
  parseOrderedJson,
} from '../../src/qevm/json.js';
import { descriptions } from '../fuzz/corpus.js';

const LIMITS = { depth: 64, values: 2_000_000 };
const parse = (text: string | Buffer, limits: OrderedJsonLimits = LIMITS): OrderedJson =>
  atOnce(parseOrderedJson(Buffer.from(text), limits));

/** What another parser makes of it, which is in no hurry; undefined for what it refuses. */
function reference(text: string): OrderedJson | undefined {
  const root: OrderedJson[] = [];
  const parents: (OrderedJson[] | OrderedObject)[] = [root];
  let key = '';
  let refused = false;
  const add = (value: OrderedJson): void => {
    const parent = parents.at(-1);
    if (parent instanceof OrderedObject) parent.add(key, value);
    else parent?.push(value);
  };
  const begin = (value: OrderedJson[] | OrderedObject): void => {
    add(value);
    parents.push(value);
  };
  const end = (): void => void parents.pop();
  jsonc.visit(
    text,
    {
      onObjectBegin: () => begin(new OrderedObject()),
      onArrayBegin: () => begin([]),
      onObjectEnd: end,
      onArrayEnd: end,
      onObjectProperty: (name) => {
        key = name;
      },
      onLiteralValue: add,
      onError: () => {
        refused = true;
      },
    },
    { disallowComments: true, allowTrailingComma: false, allowEmptyContent: false },
  );
  return refused ? undefined : root[0];
}

/** What it parses to, or undefined. */
function outcome(text: string | Buffer): OrderedJson | undefined {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

/** JSON with keys that repeat, escapes and white space of every kind. */
const anyJson = fc.letrec<{ value: string }>((tie) => {
  const blank = fc.constantFrom('', '', ' ', '\n', '\t', '\r\n', '   ');
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 6 }).map((s) => JSON.stringify(s)),
    fc.constantFrom('"a"', '"a"', '"__proto__"', '"\\u00e9\\ud800\\/"', '"é\u{1f600}"'),
  );
  const list = (open: string, item: fc.Arbitrary<string>, close: string) =>
    fc.array(item, { maxLength: 4 }).map((items) => `${open}${items.join(',')}${close}`);
  const member = fc
    .tuple(blank, text, blank, tie('value'))
    .map(([a, k, b, v]) => `${a}${k}${b}:${v}`);
  const scalar = fc.oneof(
    text,
    fc.double().map((n) => JSON.stringify(n)),
    fc.integer().map(String),
    fc.constantFrom('true', 'false', 'null', '-0', '1e400', '1E+2', '0.10', '12345678901234567890'),
  );
  const inner = fc.oneof(
    { maxDepth: 5 },
    scalar,
    list('[', tie('value'), ']'),
    list('{', member, '}'),
  );
  return { value: fc.tuple(blank, inner, blank).map((parts) => parts.join('')) };
}).value;

/** The same with a few characters that do not belong. */
const damagedJson = fc
  .tuple(
    anyJson,
    fc.array(
      fc.tuple(fc.nat(), fc.nat(2), fc.constantFrom(...'{}[]:,"\\/*-+.eE01tnu \n\u0001\u00a0é')),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([json, edits]) =>
    edits.reduce((text, [at, cut, char]) => {
      const i = at % (text.length + 1);
      return text.slice(0, i) + char + text.slice(i + cut);
    }, json),
  )
  // An edit may stand inside a pair of surrogates.
  .map((text) => text.replace(/[\ud800-\udfff]/gu, ''));

describe('JSON with keys that repeat', () => {
  it('keeps all of them, in order', () => {
    expect(parse('{"a": 1, "__proto__": 2, "a": [true, null, "x"]}')).toMatchObject({
      names: ['a', '__proto__', 'a'],
      values: [1, 2, [true, null, 'x']],
    });
  });

  it('is what another parser reads', () => {
    fc.assert(
      fc.property(anyJson, (text) => {
        const value = parse(text);
        expect(value).toEqual(reference(text));
        expect(value).toBeDefined();
      }),
    );
  });

  it('is refused when another parser refuses it, and the platform', () => {
    let refused = 0;
    fc.assert(
      fc.property(damagedJson, (text) => {
        const value = outcome(text);
        expect(value).toEqual(reference(text));
        if (value !== undefined) return void JSON.parse(text);
        expect(() => JSON.parse(text)).toThrow(SyntaxError);
        refused++;
      }),
      { numRuns: 1000 },
    );
    expect(refused).toBeGreaterThan(100);
  });

  it('is decoded as the platform does where it is no UTF-8', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const text = Buffer.concat([Buffer.from('["'), bytes, Buffer.from('"]')]);
        expect(outcome(text)).toEqual(reference(text.toString()));
      }),
    );
  });

  it('is the same in turns, for the descriptions of real devices', async () => {
    const real = await descriptions();
    expect(real.length).toBeGreaterThan(5);
    for (const json of real) {
      const value = parse(json);
      expect(value).toEqual(reference(json.toString()));
      expect(await inTurns(parseOrderedJson(json, LIMITS), undefined)).toEqual(value);
    }
  });

  it('pauses between pieces of a long text', () => {
    const steps = (text: string): number => [...parseOrderedJson(Buffer.from(text), LIMITS)].length;
    expect(steps('[1]')).toBe(0);
    for (const long of [`[${'1,'.repeat(1 << 19)}1]`, `[${' '.repeat(1 << 20)}]`]) {
      expect(steps(long)).toBeGreaterThan(10);
    }
  });

  it.each([
    ['', 'ValueExpected at byte 0'],
    [' ', 'ValueExpected'],
    [']', 'ValueExpected at byte 0'],
    ['[1 2]', 'CommaExpected at byte 3'],
    ['[1,]', 'ValueExpected at byte 3'],
    ['[,1]', 'ValueExpected'],
    ['[1}', 'CommaExpected'],
    ['{"a":1,}', 'PropertyNameExpected'],
    ['{"a":1,2', 'PropertyNameExpected'],
    ['{"a":1,', 'PropertyNameExpected'],
    ['{,', 'ValueExpected'],
    ['{"a":}', 'ValueExpected'],
    ['{"a":1', 'CloseBraceExpected'],
    ['{', 'CloseBraceExpected'],
    ['[1] x', 'InvalidSymbol'],
    ['[1] 2', 'EndOfFileExpected'],
    ['// c\n1', 'InvalidCommentToken'],
    ['/1', 'InvalidSymbol'],
    ['tru', 'InvalidSymbol'],
    ['{"a" 1}', 'ColonExpected'],
    ['"a', 'UnexpectedEndOfString'],
    ['"a\\', 'UnexpectedEndOfString'],
    ['"a\n"', 'UnexpectedEndOfString'],
    ['"a\u0001"', 'InvalidCharacter'],
    ['"\\x"', 'InvalidEscapeCharacter'],
    ['"\\u12"', 'InvalidEscapeCharacter'],
    ['[01]', 'InvalidNumberFormat at byte 1'],
    ['-', 'InvalidNumberFormat'],
    ['[', 'CloseBracketExpected'],
  ])('is refused: %j', (text, message) => {
    expect(() => parse(text)).toThrow(message);
    expect(reference(text)).toBeUndefined();
  });

  it.each([
    ['arrays', '['.repeat(100_000), 'nested too deeply'],
    ['objects', '{"a":'.repeat(100_000), 'nested too deeply'],
    ['values', `[${'1,'.repeat(2_000_001)}1]`, 'too many values'],
    ['characters in a string', `"${'x'.repeat(2 << 20)}"`, 'too long a string at byte 0'],
    ['digits', `[${'1'.repeat(2 << 20)}]`, 'too long a number at byte 1'],
  ])('is refused for too many %s', (_, text, message) => {
    expect(() => parse(text)).toThrow(message);
  });

  it.each([64, 65])('has a limit of depth that %i arrays are compared with', (depth) => {
    const text = '['.repeat(depth) + ']'.repeat(depth);
    if (depth === 64) expect(parse(text)).toEqual(reference(text));
    else expect(() => parse(text)).toThrow('nested too deeply at byte 64');
  });
});
