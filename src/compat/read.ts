import { readAtMost } from '../bytes/read.js';
import { openFile } from '../bytes/source.js';
import { MAX_VMSTATE_BYTES, parseVmstateDump, type VmstateDump } from './dump.js';

/**
 * Reads a file that `qemu-system-ppc64 -M NAME -dump-vmstate FILE` wrote.
 * @throws IoError; FormatError `E_VMSTATE`; AbortedError
 */
export async function readVmstateDump(path: string, signal?: AbortSignal): Promise<VmstateDump> {
  await using source = await openFile(path);
  return parseVmstateDump(await readAtMost(source, MAX_VMSTATE_BYTES, signal));
}
