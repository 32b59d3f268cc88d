import { abortable } from './abort.js';
import type { ByteSource } from './source.js';

/** Reads until `target` is full or the source ends; resolves to how many bytes were read. */
export async function readUpTo(
  source: ByteSource,
  target: Uint8Array,
  position: number,
  signal?: AbortSignal,
): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const reading = source.read(target.subarray(done), position + done);
    const count = await abortable(reading, signal);
    if (count === 0) break;
    done += count;
  }
  return done;
}
