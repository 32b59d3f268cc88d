import type { ByteReader } from '../bytes/reader.js';
import { FormatError } from '../errors.js';
import { type ByteOrder, HEADER_BYTES } from './block.js';
import type { HtabItem, HtabItems } from './items.js';
import { checkOrder, slotsOfOrder } from './order.js';
import { scanBlocks } from './scan.js';

/**
 * The payloads of QEMU's iterable section `spapr/htab` (hw/ppc/spapr.c htab_save_setup,
 * htab_save_iterate, htab_save_complete and htab_load, QEMU 1.6 to 10.2). All big-endian:
 *
 *   START      u32 order, or -1 for a guest without HPT
 *   PART, END  u32 -1, or u32 0, chunks, and an end marker of 8 zero bytes
 *
 * The `section` file format is these payloads one after another.
 */
export const SECTION_NAME = 'spapr/htab';

const NO_HPT = 0xffffffff;

export interface SectionOptions {
  /**
   * Byte order of the chunk headers. QEMU up to 2.2 on little-endian KVM hosts wrote them as the
   * kernel gave them; everything else is big-endian. Default `big`.
   */
  readonly byteOrder?: ByteOrder | undefined;
}

/** Decodes payloads of one section; remembers the order between them. */
export class SectionDecoder {
  #slots: number | undefined;
  #started = false;

  constructor(readonly options: SectionOptions = {}) {}

  /**
   * Decodes one payload, START, PART or END: as for QEMU's loader, its first word tells which.
   * @throws FormatError `E_ORDER`, `E_SECTION`, `E_BLOCK_RANGE`, `E_TRUNCATED`
   */
  async *payload(reader: ByteReader): AsyncGenerator<HtabItem> {
    await reader.ensure(4, `the first word of a ${SECTION_NAME} payload`);
    const offset = reader.offset;
    const word = reader.u32();
    if (word === NO_HPT) {
      this.#started = true;
      this.#slots = undefined;
      yield { type: 'no-hpt', offset };
    } else if (word !== 0) {
      this.#started = true;
      const order = checkOrder(word, offset);
      this.#slots = slotsOfOrder(order);
      yield { type: 'order', order, offset };
    } else {
      yield* this.#part(reader, offset);
    }
  }

  async *#part(reader: ByteReader, offset: number): AsyncGenerator<HtabItem> {
    if (!this.#started) {
      throw new FormatError('E_SECTION', 'blocks come before the order of the table', {
        offset,
        path: SECTION_NAME,
        expected: 'an order word first',
        actual: '0',
      });
    }
    yield { type: 'part', offset };
    const scan = scanBlocks(reader, {
      byteOrder: this.options.byteOrder ?? 'big',
      // After -1 there is no table: a block there is beyond every slot.
      slots: this.#slots ?? 0,
      path: SECTION_NAME,
      terminated: true,
    });
    for await (const batch of scan) yield { type: 'blocks', batch };
    yield { type: 'end', offset: reader.offset - HEADER_BYTES };
  }
}

/** Decodes a file in the `section` format: payloads one after another until its end. */
export async function* decodeSection(
  reader: ByteReader,
  options: SectionOptions = {},
): AsyncGenerator<HtabItem> {
  const decoder = new SectionDecoder(options);
  do yield* decoder.payload(reader);
  while (!(await reader.atEnd()));
}

/** Encodes items as `section` bytes; after {@link decodeSection}, the same bytes again. */
export async function* encodeSection(items: HtabItems): AsyncGenerator<Uint8Array> {
  for await (const item of items) yield encodeSectionItem(item);
}

/** The bytes that an item stands for in the `section` format. A view for blocks: use it at once. */
export function encodeSectionItem(item: HtabItem): Uint8Array {
  switch (item.type) {
    case 'order':
      return word(item.order);
    case 'no-hpt':
      return word(NO_HPT);
    case 'part':
      return word(0);
    case 'blocks':
      return item.batch.encode('big');
    case 'end':
      return new Uint8Array(HEADER_BYTES);
  }
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}
