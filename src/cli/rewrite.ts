import {
  ByteReader,
  DEFAULT_LIMITS,
  openFile,
  type RewriteOptions,
  type RewriteResult,
  rewrite,
  UsageError,
  type Wrapping,
} from '../index.js';
import { say } from './done.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { standardOutput } from './stdout.js';
import { count, size } from './text.js';

export interface RewriteArguments
  extends Omit<InputArguments, 'from' | 'fromEndian'>,
    Pick<
      RewriteOptions,
      | 'likeKernel'
      | 'boltedOnly'
      | 'compact'
      | 'machine'
      | 'container'
      | 'compress'
      | 'allowOtherOrder'
      | 'allowRadix'
      | 'force'
    > {
  readonly output: string;
  readonly htab?: string;
  readonly htabFrom?: 'kernel' | 'section' | 'image' | 'archive' | 'snapshot';
  readonly htabEndian?: 'little' | 'big';
  readonly htabOrder?: number;
  readonly xml?: string;
  readonly running?: boolean;
  readonly paused?: boolean;
}

/** `spapr-htab rewrite`: what was done goes to stderr when the output is stdout. */
export async function runRewrite(
  input: string,
  args: RewriteArguments,
  signal: AbortSignal,
): Promise<void> {
  check(input, args);
  const output = args.output === '-' ? standardOutput() : args.output;
  const { likeKernel, boltedOnly, compact, machine, container, compress, order } = args;
  const { allowOtherOrder, allowRadix, force } = args;
  const xml = args.xml === undefined ? undefined : await readText(args.xml, args, signal);
  const running = args.running ? true : args.paused ? false : undefined;
  const { order: _, ...inputArguments } = args;
  const done = await withInput(inputArguments, signal, ({ snapshot, offset, ...operation }) =>
    rewrite(inputOf(input), output, {
      snapshot,
      offset,
      limits: operation.limits,
      signal: operation.signal,
      onProgress: operation.onProgress,
      htab: args.htab === undefined ? undefined : inputOf(args.htab),
      htabOptions: { from: args.htabFrom, byteOrder: args.htabEndian, order: args.htabOrder },
      ...{ order, likeKernel, boltedOnly, compact, machine, container, compress },
      ...{ xml, running, allowOtherOrder, allowRadix, force },
    }),
  );
  const { output: name } = args;
  const first = `${name}: ${wrapped(done.wrapping.after)}, ${size(done.bytes.after)}`;
  say(args, { output: name, ...done }, done.warnings, first, ...changes(done, args));
}

/** Options that do nothing without another one, and standard input that two want, are mistakes. */
function check(input: string, args: RewriteArguments): void {
  const { htab, xml, order, likeKernel, htabFrom, htabEndian, htabOrder, allowOtherOrder } = args;
  if ([input, htab, xml].filter((file) => file === '-').length > 1) {
    throw new UsageError('E_USAGE', 'standard input (-) can be read for one thing only');
  }
  if (likeKernel && order === undefined) {
    throw new UsageError('E_USAGE', '--like-kernel says how to rehash; give --order N too');
  }
  if (htab === undefined && (htabFrom || htabEndian || htabOrder || allowOtherOrder)) {
    throw new UsageError(
      'E_USAGE',
      '--htab-from, --htab-endian, --htab-order and --allow-other-order say how to take --htab FILE; give it too',
    );
  }
}

/** A text in UTF-8, of a file or a pipe. What is too long for the library comes too long. */
async function readText(
  path: string,
  args: RewriteArguments,
  signal: AbortSignal,
): Promise<string> {
  // More than the library accepts is not read.
  const most = (args.limit?.libvirtBytes ?? DEFAULT_LIMITS.libvirtBytes) + 1;
  const input = inputOf(path);
  await using source = typeof input === 'string' ? await openFile(input) : input;
  const reader = new ByteReader(source, { signal });
  const pieces: Uint8Array[] = [];
  while (reader.offset < most && !(await reader.atEnd())) {
    pieces.push(reader.take(reader.available));
  }
  const bytes = Buffer.concat(pieces);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    if (bytes.length >= most) return bytes.toString('latin1');
    throw new UsageError('E_USAGE', `${path} is no text in UTF-8`, { cause });
  }
}

function wrapped({ container, format }: Wrapping): string {
  const name = container === 'raw' ? 'raw stream' : 'libvirt image';
  return format === 'none' ? name : `${name}, ${format}`;
}

function changes(
  { identical, machine, hpt, rehashed }: RewriteResult,
  args: RewriteArguments,
): string[] {
  if (identical) return ['  the same as the input, byte for byte'];
  const lines: string[] = [];
  if (machine.before !== machine.after)
    lines.push(`  machine: ${machine.before}, now ${machine.after}`);
  if (hpt?.changed) {
    const { before, after } = hpt;
    lines.push(`  HPT before: ${figures(before)}`, `  HPT after:  ${figures(after)}`);
    const saved = before.bytes - after.bytes;
    if (saved > 0) {
      const percent = Math.round((100 * saved) / before.bytes);
      lines.push(`  saved: ${size(saved)} of ${size(before.bytes)} (${percent} %)`);
    } else if (args.compact) lines.push('  saved: nothing');
  }
  if (rehashed !== undefined) {
    const { bolted, kept, dropped, notValid } = rehashed;
    const left = notValid > 0 ? `, ${notValid} stored without V left out` : '';
    lines.push(`  rehashed: ${bolted} bolted, ${kept} others kept, ${dropped} dropped${left}`);
  }
  return lines;
}

function figures(hpt: NonNullable<RewriteResult['hpt']>['before']): string {
  if (hpt.radix) return `none (radix), -1 in ${count(hpt.parts, 'part')}`;
  const entries = count(hpt.entries, 'entry');
  return `order ${hpt.order}, ${entries} in ${count(hpt.blocks, 'block')}, ${count(hpt.parts, 'part')}, ${size(hpt.bytes)}`;
}
