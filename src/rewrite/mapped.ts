import type { OperationOptions } from '../bytes/reader.js';
import type { ByteSource } from '../bytes/source.js';
import {
  bitmapBytes,
  encodeMappedHeader,
  MAPPED_HEADER_BYTES,
  type MappedRegion,
} from '../qevm/ram.js';
import type { Patch } from './patch.js';

/** QEMU puts pages at multiples of this (migration/ram.h MAPPED_RAM_FILE_OFFSET_ALIGNMENT, 9.0). */
const ALIGNMENT = 1024 * 1024;

/**
 * Patches that keep the blocks of mapped-ram valid wherever they come to stand: the header of each
 * names positions in the file.
 *
 * Where the header stays at its place, all is copied as it is. Where it moves by a little, as when a
 * name in front of it gets longer, the pages stay and the room between bitmap and pages takes the
 * difference up. Only where that does not suffice, as behind a header that was not there before, do
 * the pages move. QEMU looks for the bitmap where the header says, and goes on behind the pages
 * (migration/ram.c parse_ramblock_mapped_ram, 9.0 to 10.2).
 */
export function mappedPatches(
  source: ByteSource,
  blocks: readonly { readonly usedLength: number; readonly mapped: MappedRegion | undefined }[],
  options: OperationOptions,
): Patch[] {
  return blocks.flatMap(({ usedLength, mapped }) =>
    mapped === undefined ? [] : [mappedPatch(source, usedLength, mapped, options)],
  );
}

function mappedPatch(
  source: ByteSource,
  usedLength: number,
  region: MappedRegion,
  options: OperationOptions,
): Patch {
  const { headerOffset, bitmapOffset, pagesOffset } = region;
  const to = pagesOffset + usedLength;
  return {
    from: headerOffset,
    to,
    write: async (sink) => {
      if (sink.position === headerOffset) {
        await sink.copy(source, headerOffset, to - headerOffset, options);
        return;
      }
      const bitmap = sink.position + MAPPED_HEADER_BYTES;
      const bitmapLength = bitmapBytes(usedLength);
      const pages = placeOf(bitmap + bitmapLength, pagesOffset);
      await sink.append(encodeMappedHeader(bitmap, pages));
      await sink.copy(source, bitmapOffset, bitmapLength, options);
      await sink.hole(pages - sink.position);
      await sink.copy(source, pagesOffset, usedLength, options);
    },
  };
}

/** The first aligned place, or the one that the pages have already when it is not behind that. */
function placeOf(bitmapEnd: number, before: number): number {
  const aligned = Math.ceil(bitmapEnd / ALIGNMENT) * ALIGNMENT;
  return before >= bitmapEnd && before < aligned ? before : aligned;
}
