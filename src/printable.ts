/**
 * What a terminal may act on, or show as something else than what is there: C0 and C1 controls (ESC
 * among them), line and paragraph separators, and the marks that turn the direction of text round.
 */
const UNPRINTABLE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be escaped
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text from a file or a program, safe for a terminal: `\x1b` for ESC, `\u{202e}` and the like. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped);
}

/** One character as an escape. */
export function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  return code < 0x100 ? `\\x${hex.padStart(2, '0')}` : `\\u{${hex}}`;
}
