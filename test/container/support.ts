import { type ByteSource, IterableSource } from '../../src/bytes/source.js';
import { SpaprHtabError } from '../../src/errors.js';

/** Bytes that do not repeat soon and do not compress to nothing. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // Runs, so that compressors have something to do.
    bytes[at] = (at >> 6) % 3 === 0 ? state >>> 24 : at >> 8;
  }
  return bytes;
}

/** Everything from `start`, in reads of the given sizes in turn. */
export async function readAll(
  source: ByteSource,
  start = 0,
  sizes: readonly number[] = [65536],
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let position = start;
  for (let turn = 0; ; turn++) {
    const piece = Buffer.alloc(sizes[turn % sizes.length] ?? 1);
    const count = await source.read(piece, position);
    if (count === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, count));
    position += count;
  }
}

/** The typed error that something rejects with; fails the test when it is no typed error. */
export async function refusal(promise: Promise<unknown>): Promise<SpaprHtabError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof SpaprHtabError) return error;
    throw new Error(`not a typed error: ${String(error)}`, { cause: error });
  }
  throw new Error('there was no error');
}

/** A forward-only source that gives pieces of the size. */
export function pipe(bytes: Uint8Array, size = 1000): ByteSource {
  return new IterableSource(piecesOf(bytes, size), '<pipe>');
}

function* piecesOf(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}
