import { AtomicFile, type OutputOptions } from './bytes/output.js';
import { type ByteSource, openFile } from './bytes/source.js';
import { openContainer } from './container/open.js';
import { UsageError } from './errors.js';
import {
  containerOptions,
  type InputWarning,
  layerWarnings,
  type OpenOptions,
  seekable,
} from './input.js';
import { type RamResult, readRam } from './memory/read-ram.js';

export interface ExtractRamOptions extends OpenOptions, OutputOptions {
  /** RAM block to read. Default: `ppc_spapr.ram`, or the largest. */
  readonly block?: string | undefined;
}

/** What was written: see {@link RamResult}. */
export type ExtractRamResult = Omit<RamResult, 'warnings'> & {
  readonly warnings: readonly InputWarning[];
};

/**
 * Writes the memory of a stored guest, as it was when the snapshot was complete, to a sparse file:
 * one RAM block from its first byte on, offsets being those within the block. The file appears
 * whole or not at all, with mode 0600.
 * @throws what {@link openContainer} and {@link readRam} throw; UsageError `E_EXISTS`
 */
export async function extractRam(
  input: string | ByteSource,
  output: string,
  options: ExtractRamOptions = {},
): Promise<ExtractRamResult> {
  const { block, force, signal, onProgress, limits } = options;
  await using file = await AtomicFile.create(output, { force, signal });
  const outer = typeof input === 'string' ? await openFile(input) : input;
  const container = await openContainer(outer, containerOptions(options));
  const { start, layers } = container;
  let source = container.source;
  try {
    const read = () => readRam(source, { start, block, signal, onProgress, limits }, file);
    const result = await read().catch(async (error: unknown) => {
      // mapped-ram is read by position, which shows at the beginning of the stream.
      if (!(error instanceof UsageError && error.code === 'E_NOT_SEEKABLE')) throw error;
      source = await seekable(source, options);
      return read();
    });
    await file.commit();
    return { ...result, warnings: [...layers.flatMap(layerWarnings), ...result.warnings] };
  } finally {
    await source.close();
  }
}
