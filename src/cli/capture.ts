import {
  adoptHtabFd,
  type CaptureOptions,
  type CaptureResult,
  capture,
  type HtabFd,
  htabFdOfProcess,
  UsageError,
} from '../index.js';
import { Progress } from './progress.js';
import { standardOutput } from './stdout.js';
import { count, printable, size } from './text.js';

/** Which HTAB fd: one that was inherited, or one of another process. */
export interface FdArguments {
  readonly fd?: number;
  readonly pid?: number;
  readonly json?: boolean;
}

export interface CaptureArguments
  extends FdArguments,
    Pick<
      CaptureOptions,
      | 'to'
      | 'order'
      | 'passes'
      | 'untilQuiet'
      | 'boltedOnly'
      | 'partial'
      | 'markParts'
      | 'force'
      | 'spoolLimit'
    > {
  readonly output: string;
  readonly endian?: 'little' | 'big';
}

/** The fd that the arguments name: `--fd` alone is our own, with `--pid` one of that process. */
export async function fdOf({ fd, pid }: FdArguments): Promise<HtabFd> {
  if (pid !== undefined) return htabFdOfProcess(pid, { fd });
  if (fd === undefined) throw new UsageError('E_USAGE', 'say which fd: --fd N or --pid PID');
  return adoptHtabFd(fd);
}

/** `spapr-htab capture`: what was done goes to stderr when the output is stdout. */
export async function runCapture(args: CaptureArguments, signal: AbortSignal): Promise<void> {
  const toStdout = args.output === '-';
  const output = toStdout ? standardOutput() : args.output;
  const { to, order, passes, untilQuiet, boltedOnly, partial, markParts, force } = args;
  const { spoolLimit } = args;
  await using fd = await fdOf(args);
  if (args.pid !== undefined && !args.json) {
    const lacks = `what is read now, process ${args.pid} will not get: a QEMU that migrates loses it`;
    process.stderr.write(`warning: ${lacks}\n`);
  }
  const progress = new Progress();
  let done: CaptureResult;
  try {
    done = await capture(fd, output, {
      ...{ to, order, passes, untilQuiet, boltedOnly, partial, markParts, force, spoolLimit },
      outputByteOrder: args.endian,
      signal,
      onProgress: (at) => progress.update(at.position, at.total),
    });
  } finally {
    progress.stop();
  }
  const out = toStdout ? process.stderr : process.stdout;
  if (args.json) {
    out.write(`${JSON.stringify({ output: args.output, ...done })}\n`);
    return;
  }
  for (const { message } of done.warnings) process.stderr.write(`warning: ${printable(message)}\n`);
  out.write(`${printable(`${args.output}: ${sentence(done)}`)}\n`);
}

function sentence({ to, order, passes, blocks, valid, bytes }: CaptureResult): string {
  const words = [
    order === undefined ? 'order unknown' : `order ${order}`,
    passes === 1 ? '1 pass' : `${passes} passes`,
    count(blocks, 'block'),
    count(valid, 'entry'),
    size(bytes),
  ];
  return `HTAB fd to ${to}: ${words.join(', ')}`;
}
