import { type RestoreResult, restore } from '../index.js';
import { type FdArguments, fdOf } from './capture.js';
import { say } from './done.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { count, size } from './text.js';

export interface RestoreArguments extends InputArguments, FdArguments {
  readonly boltedOnly?: boolean;
  readonly canonical?: boolean;
  readonly allowOtherOrder?: boolean;
}

/** `spapr-htab restore`. */
export async function runRestore(
  input: string,
  args: RestoreArguments,
  signal: AbortSignal,
): Promise<void> {
  const { boltedOnly, canonical, allowOtherOrder } = args;
  await using fd = await fdOf(args);
  const done = await withInput(args, signal, (options) =>
    restore(inputOf(input), fd, { ...options, boltedOnly, canonical, allowOtherOrder }),
  );
  say(args, { input, ...done }, done.warnings, `${input}: ${sentence(done)}`);
}

function sentence({ from, machine, order, blocks, valid, invalid, bytes }: RestoreResult): string {
  const of = machine === undefined ? from : `${from} of ${machine}`;
  const words = [
    order === undefined ? 'order unknown' : `order ${order}`,
    count(blocks, 'block'),
    count(valid, 'entry'),
    `${count(invalid, 'slot')} emptied`,
    size(bytes),
  ];
  return `${of} to HTAB fd: ${words.join(', ')}`;
}
