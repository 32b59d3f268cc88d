import type { OperationOptions } from '../bytes/reader.js';
import { type ByteSink, GatheringSink } from '../bytes/sink.js';
import type { ByteSource } from '../bytes/source.js';
import { throwIfAborted } from '../errors.js';

/** A range of a stream that is written anew. Positions are bytes in the source. */
export interface Patch {
  readonly from: number;
  /** One past its last byte; `from` where something is put in. */
  readonly to: number;
  /**
   * Writes what comes in its place. Where the source can only be read forward, nothing behind `to`
   * may be read.
   */
  write(sink: ByteSink): Promise<void>;
}

/**
 * Copies a source from `start` to its end, with patches in place of their ranges: what no patch
 * covers is the same bytes.
 * @param patches in ascending order, none overlapping another
 * @throws FormatError `E_TRUNCATED` when the source became shorter; what source and sink throw
 */
export async function splice(
  source: ByteSource,
  start: number,
  patches: readonly Patch[],
  out: ByteSink,
  options: OperationOptions = {},
): Promise<void> {
  const sink = new GatheringSink(out);
  let at = start;
  for (const patch of patches) {
    if (patch.from < at) throw new RangeError(`patches overlap at ${patch.from}`);
    if (patch.from > at) await sink.copy(source, at, patch.from - at, options);
    await patch.write(sink);
    at = patch.to;
  }
  if (source.size !== undefined) {
    if (source.size > at) await sink.copy(source, at, source.size - at, options);
  } else {
    await copyRest(source, at, sink, options);
  }
  await sink.flush();
}

async function copyRest(
  source: ByteSource,
  from: number,
  sink: ByteSink,
  options: OperationOptions,
): Promise<void> {
  const piece = Buffer.allocUnsafeSlow(1024 * 1024);
  for (let at = from; ; ) {
    throwIfAborted(options.signal);
    const count = await source.read(piece, at);
    if (count === 0) return;
    await sink.append(piece.subarray(0, count));
    at += count;
    options.onProgress?.({ position: at, total: undefined });
  }
}
