import type { InputWarning } from '../index.js';
import { json, printable } from './text.js';

/**
 * Says what a verb did: to programs all of it, to people its warnings and these lines. It goes to
 * stderr when the output is stdout.
 */
export function say(
  args: { readonly output?: string; readonly json?: boolean },
  done: Readonly<Record<string, unknown>>,
  warnings: readonly Pick<InputWarning, 'message'>[],
  ...lines: readonly string[]
): void {
  const out = args.output === '-' ? process.stderr : process.stdout;
  if (args.json) {
    out.write(`${json(done)}\n`);
    return;
  }
  for (const { message } of warnings) process.stderr.write(`warning: ${printable(message)}\n`);
  out.write(`${lines.map(printable).join('\n')}\n`);
}
