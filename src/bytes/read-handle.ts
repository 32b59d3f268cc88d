import type { FileHandle } from 'node:fs/promises';
import { MAX_TRANSFER } from './write.js';

/**
 * Reads once, at most `target.length` bytes; resolves to how many, 0 at the end of the file. Again
 * after EINTR, which Node does for every call but this one; network file systems give it.
 * @throws what Node's fs throws
 */
export async function readHandle(
  handle: FileHandle,
  target: Uint8Array,
  position: number,
): Promise<number> {
  const length = Math.min(MAX_TRANSFER, target.length);
  for (;;) {
    try {
      return (await handle.read(target, 0, length, position)).bytesRead;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINTR') throw error;
    }
  }
}
