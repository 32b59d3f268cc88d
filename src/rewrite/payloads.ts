import { ByteReader } from '../bytes/reader.js';
import { type ByteSource, SliceSource } from '../bytes/source.js';
import { BatchBuffer, type ByteOrder } from '../htab/block.js';
import type { HtabItem, HtabItems } from '../htab/items.js';
import { encodeSectionItem, SectionDecoder } from '../htab/section.js';

/** Where a payload stands in its stream, in bytes. */
export interface PayloadPlace {
  readonly payloadOffset: number;
  readonly payloadLength: number;
}

/**
 * What the payloads at these places of a stream say, one after another.
 * @param byteOrder of the chunk headers: a payload alone shows less of it than the walk has seen
 */
export async function* itemsAt(
  source: ByteSource,
  places: readonly PayloadPlace[],
  byteOrder: ByteOrder,
): AsyncGenerator<HtabItem> {
  const decoder = new SectionDecoder({ byteOrder });
  for (const { payloadOffset, payloadLength } of places) {
    const slice = new SliceSource(source, payloadOffset, payloadLength);
    yield* decoder.payload(new ByteReader(slice));
  }
}

/** Whether a payload is complete with this item. */
export function endsPayload(item: HtabItem): boolean {
  return item.type === 'order' || item.type === 'no-hpt' || item.type === 'end';
}

/**
 * The items of the next payload as its bytes: START, then every PART and the END. The pieces of one
 * are to be taken before the next is asked for; nothing behind its end is pulled.
 */
export async function* nextPayload(items: AsyncIterator<HtabItem>): AsyncGenerator<Uint8Array> {
  const buffer = new BatchBuffer();
  for (;;) {
    const item = await items.next();
    if (item.done) throw new RangeError('there are fewer payloads than the stream has parts');
    yield encodeSectionItem(item.value, buffer);
    if (endsPayload(item.value)) return;
  }
}

/** The order in START, empty parts, and all blocks in the last of them. */
export async function* allInLast(
  order: number,
  parts: number,
  blocks: HtabItems,
): AsyncGenerator<HtabItem> {
  yield { type: 'order', order, offset: 0 };
  for (let part = 1; part <= parts; part++) {
    yield { type: 'part', offset: 0 };
    if (part === parts) {
      for await (const item of blocks) if (item.type === 'blocks') yield item;
    }
    yield { type: 'end', offset: 0 };
  }
}

/** No HPT: -1 in START and in every part (hw/ppc/spapr.c htab_save_setup, QEMU 2.10 and later). */
export async function* withoutHpt(parts: number): AsyncGenerator<HtabItem> {
  for (let payload = 0; payload <= parts; payload++) yield { type: 'no-hpt', offset: 0 };
}
