import { type ByteSource, openFile } from './bytes/source.js';
import { type ContainerLayer, inspectContainer } from './container/open.js';
import type { SpaprHtabError } from './errors.js';
import type { InputFormat } from './formats/format.js';
import type { ByteOrder } from './htab/block.js';
import { Census, type HtabSummary } from './htab/census.js';
import {
  containerOptions,
  type InputWarning,
  layerWarnings,
  type OpenOptions,
  openInside,
} from './input.js';
import { describeStream, type StreamInfo } from './snapshot/describe.js';

/** What `spapr-htab info` prints. Plain data. */
export interface FileInfo {
  readonly name: string;
  /** Bytes of the file; undefined for a pipe. */
  readonly size: number | undefined;
  /** Containers around the data, from the outside in. */
  readonly layers: readonly ContainerLayer[];
  /** What is inside; undefined when there is a refusal. */
  readonly format: InputFormat | undefined;
  /** Byte order of the block headers, for `kernel`. */
  readonly byteOrder: ByteOrder | undefined;
  /** Undefined for a stream without `spapr/htab`. */
  readonly hpt: HtabSummary | undefined;
  /** For a snapshot: its stream. */
  readonly stream: StreamInfo | undefined;
  readonly warnings: readonly InputWarning[];
  /** Why a container that was recognised could not be opened, such as a snapshot to be named. */
  readonly refusal: SpaprHtabError | undefined;
}

/**
 * Describes a snapshot or HPT file. A container that is recognised but cannot be opened is
 * described too, with the reason.
 * @throws IoError, FormatError, LimitError, AbortedError
 */
export async function inspect(
  input: string | ByteSource,
  options: OpenOptions = {},
): Promise<FileInfo> {
  const source = typeof input === 'string' ? await openFile(input) : input;
  const { name, size } = source;
  const { layers, opened, refusal } = await inspectContainer(source, containerOptions(options));
  const file = { name, size, layers };
  if (opened === undefined) {
    if (layers.length === 0) throw refusal;
    const nothing = { format: undefined, byteOrder: undefined, hpt: undefined, stream: undefined };
    return { ...file, ...nothing, warnings: layers.flatMap(layerWarnings), refusal };
  }
  await using hpt = await openInside(opened, options);
  const facts = { ...file, format: hpt.format, byteOrder: hpt.byteOrder, refusal };
  if (hpt.format === 'snapshot') {
    const { signal, onProgress, limits } = options;
    const walk = { start: hpt.start, signal, onProgress, limits };
    const stream = await describeStream(hpt.source, walk);
    return { ...facts, hpt: stream.hpt, stream, warnings: [...hpt.warnings, ...stream.warnings] };
  }
  const census = new Census(options.limits);
  for await (const item of hpt.items({ order: true })) census.add(item);
  return { ...facts, hpt: census.summary(), stream: undefined, warnings: hpt.warnings };
}
