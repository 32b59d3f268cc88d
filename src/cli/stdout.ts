import { once } from 'node:events';
import { IoError, UsageError } from '../index.js';

/** Standard output as a sink that waits when the reader is slow. */
export function standardOutput(): { write(bytes: Uint8Array): Promise<void> } {
  const { stdout } = process;
  if (stdout.isTTY) {
    throw new UsageError('E_USAGE', 'binary data is not written to a terminal; use -o FILE');
  }
  let failure: Error | undefined;
  stdout.on('error', (error) => {
    failure ??= error;
  });
  return {
    async write(bytes) {
      // A copy: the bytes are reused as soon as this resolves, and the stream may still hold them.
      if (!stdout.write(Buffer.from(bytes)) && failure === undefined) {
        const { signal, ...settled } = pending();
        const waits = ['drain', 'close'].map((name) => once(stdout, name, { signal }));
        await Promise.race(waits).catch(() => undefined);
        settled.end();
        for (const wait of waits) wait.catch(() => undefined);
      }
      if (failure !== undefined) {
        throw outputFailed(failure);
      }
    },
  };
}

function pending(): { signal: AbortSignal; end: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, end: () => controller.abort() };
}

/** What went wrong with standard output, in words. */
export function outputFailed(cause: Error): IoError {
  const { code } = cause as NodeJS.ErrnoException;
  const reason = code === 'EPIPE' ? 'the reader closed the pipe' : cause.message;
  return new IoError('E_IO', `cannot write to standard output: ${reason}`, { actual: code, cause });
}
