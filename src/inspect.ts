import type { ByteSource } from './bytes/source.js';
import type { ContainerLayer } from './container/open.js';
import type { InputFormat } from './formats/format.js';
import type { ByteOrder } from './htab/block.js';
import { Census, type HtabSummary } from './htab/census.js';
import { type InputWarning, type OpenOptions, openHpt } from './input.js';
import { describeStream, type StreamInfo } from './snapshot/describe.js';

/** What `spapr-htab info` prints. Plain data. */
export interface FileInfo {
  readonly name: string;
  /** Bytes of what was read; undefined for a pipe. */
  readonly size: number | undefined;
  readonly format: InputFormat;
  readonly layers: readonly ContainerLayer[];
  /** Byte order of the block headers, for `kernel`. */
  readonly byteOrder: ByteOrder | undefined;
  /** Undefined for a stream without `spapr/htab`. */
  readonly hpt: HtabSummary | undefined;
  /** For a snapshot: its stream. */
  readonly stream: StreamInfo | undefined;
  readonly warnings: readonly InputWarning[];
}

/** Describes a snapshot or HPT file. @throws what {@link openHpt} throws */
export async function inspect(
  input: string | ByteSource,
  options: OpenOptions = {},
): Promise<FileInfo> {
  await using hpt = await openHpt(input, options);
  const { name, format, layers, byteOrder } = hpt;
  const size = hpt.source.size;
  const facts = { name, size, format, layers, byteOrder };
  if (format === 'snapshot') {
    const { signal, onProgress } = options;
    const stream = await describeStream(hpt.source, { start: hpt.start, signal, onProgress });
    return { ...facts, hpt: stream.hpt, stream, warnings: stream.warnings };
  }
  const census = new Census();
  for await (const item of hpt.items({ order: true })) census.add(item);
  const summary = census.summary();
  return { ...facts, hpt: summary, stream: undefined, warnings: hpt.warnings };
}
