import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** An input that can be made in any size, and what is done with it. */
export interface Case {
  readonly name: string;
  /** What the size counts. */
  readonly unit: string;
  /** Four sizes, the last at least 16 times the first; the last must take long enough to tell. */
  readonly sizes: readonly [number, number, number, number];
  /** Makes the input, into files of the folder where it is large, and gives what is measured. */
  readonly prepare: (size: number, folder: string) => Promise<Run> | Run;
}

/** What is measured; a run of another process gives what that took. */
export type Run = () => Promise<Usage | undefined>;

export interface Usage {
  /** Processor time of user and system, in milliseconds. */
  readonly cpuMs: number;
  /** Largest resident set in MiB. */
  readonly peakMiB: number;
}

/** Four sizes from the largest: a sixteenth, and two between. */
export function sizesTo(largest: number): readonly [number, number, number, number] {
  const at = (factor: number): number => Math.ceil(largest / factor);
  return [at(16), at(6.3), at(2.5), largest];
}

/** A file of these pieces, of which one at a time is held. */
export function fileOf(folder: string, pieces: Iterable<Uint8Array>, name = 'input'): string {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  const room = Buffer.alloc(1 << 20);
  let used = 0;
  const flush = (): void => {
    for (let at = 0; at < used; ) at += writeSync(fd, room, at, used - at);
    used = 0;
  };
  try {
    for (const piece of pieces) {
      if (used + piece.length > room.length) flush();
      if (piece.length > room.length) {
        for (let at = 0; at < piece.length; ) at += writeSync(fd, piece, at);
        continue;
      }
      room.set(piece, used);
      used += piece.length;
    }
    flush();
  } finally {
    closeSync(fd);
  }
  return path;
}

export function* times(count: number, piece: (i: number) => Uint8Array): Generator<Uint8Array> {
  for (let i = 0; i < count; i++) yield piece(i);
}
