import { type ByteSource, FileSource, SliceSource } from './source.js';

export interface FileRange {
  readonly file: FileSource;
  readonly from: number;
}

/** The file that the bytes at `from` stand in; a class that reads in its own way is none. */
export function fileBehind(source: ByteSource, from: number): FileRange | undefined {
  if (source.constructor === FileSource) return { file: source as FileSource, from };
  if (source.constructor !== SliceSource) return undefined;
  const { parent, start } = source as SliceSource;
  return fileBehind(parent, start + from);
}
