import { type ByteSource, IterableSource, type OpenOptions } from '../index.js';
import { Progress } from './progress.js';

/** Limits by name, as `--limit` gave them. */
export type LimitArguments = Readonly<Record<string, number>>;

export interface InputArguments {
  readonly from?: OpenOptions['from'];
  readonly fromEndian?: 'little' | 'big';
  readonly order?: number;
  readonly snapshot?: string;
  readonly offset?: number;
  readonly limit?: LimitArguments;
  readonly json?: boolean;
}

/** The input that an argument names: a path, or standard input. */
export function inputOf(file: string): string | ByteSource {
  return file === '-' ? new IterableSource(process.stdin, '<stdin>') : file;
}

/** Runs a job with the options that all verbs share and a progress bar. */
export async function withInput<T>(
  args: InputArguments,
  signal: AbortSignal,
  job: (options: OpenOptions) => Promise<T>,
): Promise<T> {
  const progress = new Progress();
  try {
    return await job({
      from: args.from,
      byteOrder: args.fromEndian,
      order: args.order,
      snapshot: args.snapshot,
      offset: args.offset,
      limits: args.limit,
      signal,
      onProgress: (at) => progress.update(at.position, at.total),
    });
  } finally {
    progress.stop();
  }
}
