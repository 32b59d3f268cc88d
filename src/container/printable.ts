/** Text from a file or a program, without what could confuse a terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd');
}
