import type { Layout, Span } from '../layout.js';

const WORDS = [
  '"__proto__"',
  '"constructor"',
  '"toString"',
  '"devices"',
  '"name"',
  '"size"',
  '"array_len"',
  '"index"',
  '"struct"',
  '"fields"',
  '"subsections"',
  '"qtailq"',
  '"gtree"',
  '"vstruct"',
  '"nullptr"',
  '"buffer"',
  '"\\u0000\\ud800"',
  '"\u001b[31m"',
  '-1',
  '0',
  '1e400',
  '1.5',
  '4294967296',
  '9007199254740993',
  '99999999999999999999999',
  'null',
  'true',
  '[]',
  '{}',
  '['.repeat(100),
  '{"":'.repeat(80),
  ',',
  '}',
  ']',
].map((word) => Buffer.from(word));

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null/g;

/** Strings and numbers of JSON, and objects that have none inside. */
export function jsonLayout(bytes: Buffer): Layout {
  const text = bytes.toString('latin1');
  const spans: Span[] = [];
  const all = (pattern: RegExp, most: number): void => {
    for (const { index, 0: token } of text.matchAll(pattern)) {
      if (spans.length >= most) return;
      spans.push({ from: index, to: index + token.length });
    }
  };
  all(TOKENS, 4000);
  all(/\{[^{}]*\}/g, 5000);
  all(/\{[^{}]*\},?\s*/g, 6000);
  return { fields: [], spans, words: WORDS };
}
