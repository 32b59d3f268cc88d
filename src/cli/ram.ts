import { extractRam, UsageError } from '../index.js';
import { say } from './done.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { count, size } from './text.js';

export interface RamArguments extends InputArguments {
  readonly output: string;
  readonly block?: string;
  readonly force?: boolean;
}

/** `spapr-htab ram`. */
export async function runRam(file: string, args: RamArguments, signal: AbortSignal): Promise<void> {
  const { output, block, force } = args;
  if (output === '-') {
    throw new UsageError('E_USAGE', 'memory is sparse and is written to a file, not to a stream');
  }
  const done = await withInput(args, signal, (options) =>
    extractRam(inputOf(file), output, { ...options, block, force }),
  );
  const blocks = done.blocks.map((b) => ({ ...b, address: b.address?.toString() }));
  const kinds = [
    count(done.pages, 'page'),
    `${done.zeroPages} zero`,
    ...(done.xbzrlePages > 0 ? [`${done.xbzrlePages} XBZRLE`] : []),
    ...(done.compressedPages > 0 ? [`${done.compressedPages} compressed`] : []),
  ].join(', ');
  const text = `${output}: RAM block ${done.block}, ${size(done.size)}; ${kinds}`;
  say(args, { output, ...done, blocks }, done.warnings, text);
}
