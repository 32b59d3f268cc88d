import { type ByteSource, openFile } from './bytes/source.js';
import type { VmstateDump } from './compat/dump.js';
import { readVmstateDump } from './compat/read.js';
import { type CheckReport, checkStream } from './compat/report.js';
import { openContainer } from './container/open.js';
import { SECTION_NAME } from './htab/section.js';
import {
  containerOptions,
  type InputWarning,
  layerWarnings,
  type OpenOptions,
  seekable,
} from './input.js';
import type { PayloadWalker } from './qevm/elements.js';
import { htabWalker } from './snapshot/htab.js';

export type CheckOptions = OpenOptions;

/** What a target would make of a snapshot: see {@link CheckReport}. */
export interface SnapshotCheck extends CheckReport {
  readonly warnings: readonly InputWarning[];
}

/**
 * Says, section by section, what a QEMU would refuse of a snapshot in any container, by the
 * descriptions that this program prints of itself. Nothing is loaded anywhere.
 *
 * Descriptions stand at the end of a stream: one that is compressed or comes through a pipe is
 * copied to a temporary file first (`spoolBytes`).
 *
 * @param vmstate what `qemu-system-ppc64 -M NAME -dump-vmstate FILE` wrote: its path, or the dump
 * @throws what {@link openContainer}, {@link checkStream} and {@link readVmstateDump} throw
 */
export async function checkSnapshot(
  input: string | ByteSource,
  vmstate: string | VmstateDump,
  options: CheckOptions = {},
): Promise<SnapshotCheck> {
  const { signal, onProgress, limits } = options;
  const outer = typeof input === 'string' ? await openFile(input) : input;
  let dump: VmstateDump;
  try {
    dump =
      typeof vmstate === 'string' ? await readVmstateDump(vmstate, { signal, limits }) : vmstate;
  } catch (error) {
    await outer.close();
    throw error;
  }
  const { source: inner, start, layers } = await openContainer(outer, containerOptions(options));
  await using source = await seekable(inner, options);
  const warnings: InputWarning[] = layers.flatMap(layerWarnings);
  const walkers = new Map([[SECTION_NAME, htabWalker() as PayloadWalker<unknown>]]);
  const onWarning = (warning: InputWarning): void => void warnings.push(warning);
  const stream = { start, signal, onProgress, limits, walkers, onWarning };
  return { ...(await checkStream(source, dump, stream)), warnings };
}
