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
    failure = error;
  });
  return {
    async write(bytes) {
      // A copy: the bytes are reused as soon as this resolves, and the stream may still hold them.
      if (!stdout.write(Buffer.from(bytes)) && failure === undefined) {
        await Promise.race([once(stdout, 'drain'), once(stdout, 'close')]).catch(() => undefined);
      }
      if (failure !== undefined) {
        throw new IoError('E_IO', 'cannot write to standard output: the reader closed the pipe', {
          cause: failure,
        });
      }
    },
  };
}
