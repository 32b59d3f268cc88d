import { inTurns } from '../bytes/pace.js';
import { readAtMost } from '../bytes/read.js';
import type { OperationOptions } from '../bytes/reader.js';
import { openFile } from '../bytes/source.js';
import { limitsOf } from '../limits.js';
import { dumpSteps, type VmstateDump } from './dump.js';

/**
 * Reads a file that `qemu-system-ppc64 -M NAME -dump-vmstate FILE` wrote.
 * @throws IoError; FormatError `E_VMSTATE`; LimitError; AbortedError
 */
export async function readVmstateDump(
  path: string,
  options: Pick<OperationOptions, 'signal' | 'limits'> = {},
): Promise<VmstateDump> {
  const { signal, limits } = options;
  await using source = await openFile(path);
  const json = await readAtMost(source, limitsOf(limits).vmstateBytes, signal);
  // Awaited here: a failure while the file is being closed would be nobody's.
  return await inTurns(dumpSteps(json, limits), signal);
}
