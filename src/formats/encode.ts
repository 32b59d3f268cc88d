import type { ArchiveOrigin } from '../archive/encode.js';
import type { ByteOrder } from '../htab/block.js';
import type { HtabItem, HtabItems } from '../htab/items.js';
import { encodeKernel } from '../htab/kernel.js';
import { orderRequired } from '../htab/missing.js';
import { encodeSection } from '../htab/section.js';
import type { HptFormat } from './format.js';

export interface EncodeOptions {
  /** `kernel`: byte order of the block headers. Default `little`, as today's POWER hosts are. */
  readonly byteOrder?: ByteOrder | undefined;
  /** `kernel`: end each part with a block {0,0,0}, which the kernel ignores. Default false. */
  readonly markParts?: boolean | undefined;
  /** `archive`: what the header says of the source; a function is asked when the first item is there. */
  readonly origin?: ArchiveOrigin | (() => ArchiveOrigin) | undefined;
}

/** Formats that are written front to back; an image is written by position, see writeImage. */
export type StreamedFormat = Exclude<HptFormat, 'image'>;

/**
 * Encodes items in a format. Pieces are views into reused memory: use each before the next.
 * @throws UsageError `E_ORDER_REQUIRED` for a `section` of items without an order
 */
export function encodeHpt(
  items: HtabItems,
  format: StreamedFormat,
  options: EncodeOptions = {},
): AsyncIterable<Uint8Array> {
  switch (format) {
    case 'kernel':
      return encodeKernel(items, {
        byteOrder: options.byteOrder ?? 'little',
        markParts: options.markParts,
      });
    case 'section':
      return encodeSection(withOrder(items));
    case 'archive':
      return archive(
        items,
        options.origin ?? { source: { kind: 'library' }, byteOrder: null, host: null },
      );
  }
}

/** Loaded for archives only, with MessagePack and a library of schemas beneath it. */
async function* archive(
  items: HtabItems,
  origin: ArchiveOrigin | (() => ArchiveOrigin),
): AsyncGenerator<Uint8Array> {
  const { encodeArchive } = await import('../archive/encode.js');
  yield* encodeArchive(items, origin);
}

async function* withOrder(items: HtabItems): AsyncGenerator<HtabItem> {
  let first = true;
  for await (const item of items) {
    if (first && item.type !== 'order' && item.type !== 'no-hpt') throw orderRequired();
    first = false;
    yield item;
  }
}
