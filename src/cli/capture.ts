import {
  adoptHtabFd,
  type CaptureOptions,
  type CaptureResult,
  capture,
  type HtabFd,
  htabFdOfProcess,
  type InputWarning,
  UsageError,
} from '../index.js';
import { say } from './done.js';
import type { LimitArguments } from './input.js';
import { Progress } from './progress.js';
import { standardOutput } from './stdout.js';
import { count, size } from './text.js';

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
      'to' | 'order' | 'passes' | 'untilQuiet' | 'boltedOnly' | 'partial' | 'markParts' | 'force'
    > {
  readonly output: string;
  readonly limit?: LimitArguments;
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
  const output = args.output === '-' ? standardOutput() : args.output;
  const { to, order, passes, untilQuiet, boltedOnly, partial, markParts, force } = args;
  await using fd = await fdOf(args);
  const progress = new Progress();
  let done: CaptureResult;
  try {
    done = await capture(fd, output, {
      ...{ to, order, passes, untilQuiet, boltedOnly, partial, markParts, force },
      limits: args.limit,
      outputByteOrder: args.endian,
      signal,
      onProgress: (at) => progress.update(at.position, at.total),
    });
  } finally {
    progress.stop();
  }
  const warnings = [...done.warnings, ...sharedWarnings(args)];
  const { output: name } = args;
  say(args, { output: name, ...done, warnings }, warnings, `${name}: ${sentence(done)}`);
}

function sharedWarnings({ pid }: FdArguments): InputWarning[] {
  if (pid === undefined) return [];
  const message = `what was read, process ${pid} will not get: a QEMU that migrates has lost it`;
  return [{ code: 'W_SHARED_FD', offset: undefined, message }];
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
