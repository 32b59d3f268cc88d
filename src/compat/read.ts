import { openFile } from '../bytes/source.js';
import { throwIfAborted } from '../errors.js';
import { MAX_VMSTATE_BYTES, parseVmstateDump, type VmstateDump } from './dump.js';

const PIECE = 1024 * 1024;

/**
 * Reads a file that `qemu-system-ppc64 -M NAME -dump-vmstate FILE` wrote.
 * @throws IoError; FormatError `E_VMSTATE`; AbortedError
 */
export async function readVmstateDump(path: string, signal?: AbortSignal): Promise<VmstateDump> {
  await using source = await openFile(path);
  const pieces: Buffer[] = [];
  let length = 0;
  // One byte beyond the limit shows that it is too long; a device may have no end.
  while (length <= MAX_VMSTATE_BYTES) {
    throwIfAborted(signal);
    const piece = Buffer.alloc(PIECE);
    const count = await source.read(piece, length);
    if (count === 0) break;
    pieces.push(piece.subarray(0, count));
    length += count;
  }
  return parseVmstateDump(Buffer.concat(pieces));
}
