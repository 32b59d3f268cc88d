import { AbortedError, throwIfAborted } from '../errors.js';

/**
 * The same promise, which fails as soon as the signal fires: a read of a silent pipe may never
 * end by itself. What was begun goes on; closing its source ends it.
 */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  if (signal.aborted) {
    // Nobody waits for it, nor may its failure end the process.
    work.catch(() => undefined);
    throwIfAborted(signal);
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => {
      reject(new AbortedError('E_ABORTED', 'the operation was aborted', { cause: signal.reason }));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
