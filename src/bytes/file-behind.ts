import { type ByteSource, FileSource, SliceSource } from './source.js';

/** Where bytes of a source stand in a file. */
export interface FileRange {
  readonly file: FileSource;
  readonly from: number;
  /** Where the source ends in the file; infinite where it does so with the file. */
  readonly end: number;
}

/** The file that the bytes at `from` stand in; a class that reads in its own way is none. */
export function fileBehind(source: ByteSource, from: number): FileRange | undefined {
  if (source.constructor === FileSource) {
    return { file: source as FileSource, from, end: Number.POSITIVE_INFINITY };
  }
  if (source.constructor !== SliceSource) return undefined;
  const { parent, start, size } = source as SliceSource;
  const behind = fileBehind(parent, start + from);
  if (behind === undefined || size === undefined) return behind;
  // Its own end is as far from its beginning as `from` is from there.
  return { ...behind, end: Math.min(behind.end, behind.from - from + size) };
}
