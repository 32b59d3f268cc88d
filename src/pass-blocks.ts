import { loadAddon } from './addon/load.js';
import { fileBehind } from './bytes/file-behind.js';
import type { AtomicFile } from './bytes/output.js';
import type { OperationOptions } from './bytes/reader.js';
import { transferError } from './bytes/transferred.js';
import { ioError, throwIfAborted } from './errors.js';
import type { ByteOrder } from './htab/block.js';
import type { BlockPass } from './htab/scan.js';
import type { Tally } from './htab/tally.js';

/** Bytes that one call of the addon takes at most: how soon an abort is noticed. */
const STEP = 128 * 1024 * 1024;

/**
 * Blocks that go from a plain file to the end of another, with headers in the byte order `to` and
 * nothing else changed: read, checked and turned round on one thread and written on a second one, by
 * the addon. Blocks that are taken this way are counted in `tally`.
 *
 * Where the addon is missing, or the source is something else, it takes nothing.
 */
export function passBlocks(
  file: AtomicFile,
  to: ByteOrder,
  tally: Tally,
  { signal, onProgress }: OperationOptions,
): BlockPass {
  return async (source, offset, { byteOrder, slots }) => {
    const pass = loadAddon().addon?.passBlocks;
    const behind = fileBehind(source, offset);
    if (pass === undefined || behind === undefined || source.size === undefined) return 0;
    const length = source.size - offset;
    const most = slots ?? Number.MAX_SAFE_INTEGER;
    const little = { from: byteOrder === 'little', to: to === 'little' };
    let done = 0;
    for (let last = STEP; last > 0 && done < length; ) {
      throwIfAborted(signal);
      const from = behind.from + done;
      const step = Math.min(STEP, length - done);
      const append = (inFd: number) =>
        file.appendBy(async (outFd, position) => {
          const result = await pass(
            inFd,
            from,
            outFd,
            position,
            step,
            most,
            little.from,
            little.to,
          );
          if (result.errno !== 0) throw transferError(result, source.name, file.path);
          tally.blocks += result.blocks;
          tally.valid += result.valid;
          last = result.bytes;
          return last;
        });
      try {
        await behind.file.lend(append);
      } catch (error) {
        // Or it was closed.
        throw ioError(error, 'read', source.name);
      }
      done += last;
      onProgress?.({ position: offset + done, total: source.size });
    }
    return done;
  };
}
