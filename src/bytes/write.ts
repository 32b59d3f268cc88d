import type { FileHandle } from 'node:fs/promises';

/** Bytes of one call of Node's fs at most: at 2^31 it ends the whole process. */
export const MAX_TRANSFER = 2 ** 30;

/** Zeros that fill such a piece of a file, in bytes, become a hole. */
export const ZERO_BLOCK = 64 * 1024;

const ZEROS = Buffer.alloc(ZERO_BLOCK);

/** Writes all of it: one write(2) may take less. @throws what Node's fs throws */
export async function writeFully(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const left = Math.min(MAX_TRANSFER, bytes.length - done);
    done += (await handle.write(bytes, done, left, position + done)).bytesWritten;
  }
}

/**
 * Writes runs of blocks that are not zero, blocks being those of the file: the others stay the
 * holes that they are. The range must be one that was never written, and its end is not made to
 * be the end of the file.
 * @throws what Node's fs throws
 */
export async function writeSparse(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  let from = 0;
  for (let at = 0; at < bytes.length; ) {
    const next = Math.min(bytes.length, at + ZERO_BLOCK - ((position + at) % ZERO_BLOCK));
    if (ZEROS.subarray(0, next - at).equals(bytes.subarray(at, next))) {
      await writeFully(handle, bytes.subarray(from, at), position + from);
      from = next;
    }
    at = next;
  }
  await writeFully(handle, bytes.subarray(from), position + from);
}
