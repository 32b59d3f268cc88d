import { type ConvertOptions, type ConvertResult, convert } from '../index.js';
import { say } from './done.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { standardOutput } from './stdout.js';
import { count, size } from './text.js';

export interface ConvertArguments extends InputArguments {
  readonly output: string;
  readonly to?: ConvertOptions['to'];
  readonly endian: 'little' | 'big';
  readonly boltedOnly?: boolean;
  readonly canonical?: boolean;
  readonly markParts?: boolean;
  readonly force?: boolean;
}

/** `spapr-htab convert`: what was done goes to stderr when the output is stdout. */
export async function runConvert(
  input: string,
  args: ConvertArguments,
  signal: AbortSignal,
): Promise<void> {
  const output = args.output === '-' ? standardOutput() : args.output;
  const done = await withInput(args, signal, (options) =>
    convert(inputOf(input), output, {
      ...options,
      to: args.to,
      outputByteOrder: args.endian,
      boltedOnly: args.boltedOnly,
      canonical: args.canonical,
      markParts: args.markParts,
      force: args.force,
    }),
  );
  const { output: name } = args;
  say(args, { output: name, ...done }, done.warnings, `${name}: ${sentence(done, args)}`);
}

function sentence(done: ConvertResult, args: ConvertArguments): string {
  const of = done.machine === undefined ? done.from : `${done.from} of ${done.machine}`;
  const to = done.to === 'kernel' ? `kernel (${args.endian}-endian headers)` : done.to;
  if (done.radix) return `${of} to ${to}: the guest has no HPT (radix), ${size(done.bytes)}`;
  const order = done.order === undefined ? 'order unknown' : `order ${done.order}`;
  const valid = count(done.valid, 'entry');
  return (
    `${of} to ${to}: ${order}, ${count(done.parts, 'part')}, ` +
    `${count(done.blocks, 'block')}, ${valid}, ${size(done.bytes)}`
  );
}
