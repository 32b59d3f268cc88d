import { type ByteSource, openFile } from './bytes/source.js';
import { openContainer } from './container/open.js';
import { type DeviceReport, describeDevices } from './devices/describe.js';
import { SECTION_NAME } from './htab/section.js';
import { containerOptions, type OpenOptions, seekable } from './input.js';
import type { PayloadWalker, StreamWarning } from './qevm/elements.js';
import { htabWalker } from './snapshot/htab.js';

export interface InspectDevicesOptions extends OpenOptions {
  /** Told what the walk warns of. Default: nobody. */
  readonly onWarning?: ((warning: StreamWarning) => void) | undefined;
}

/**
 * The device state of a snapshot in any container, section by section. The descriptions stand at
 * the end of a stream: one that is compressed or comes through a pipe is copied to a temporary file
 * first (`spoolBytes`).
 * @throws what {@link openContainer} and {@link describeDevices} throw
 */
export async function* inspectDevices(
  input: string | ByteSource,
  options: InspectDevicesOptions = {},
): AsyncGenerator<DeviceReport> {
  const { signal, onProgress, limits, onWarning } = options;
  const outer = typeof input === 'string' ? await openFile(input) : input;
  const container = await openContainer(outer, containerOptions(options));
  await using source = await seekable(container.source, options);
  const walkers = new Map([[SECTION_NAME, htabWalker() as PayloadWalker<unknown>]]);
  const { start } = container;
  yield* describeDevices(source, { start, signal, onProgress, limits, onWarning, walkers });
}
