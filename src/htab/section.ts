import type { ByteReader } from '../bytes/reader.js';
import { FormatError } from '../errors.js';
import { BatchBuffer, type ByteOrder, HEADER_BYTES } from './block.js';
import { chunkByteOrder } from './dialect.js';
import type { HtabItem, HtabItems } from './items.js';
import { checkOrder, slotsOfOrder } from './order.js';
import { type BlockPass, scanBlocks } from './scan.js';

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
   * Byte order of the chunk headers. Default: big-endian, unless the first chunks cannot be that
   * and can be little-endian, as QEMU up to 2.2 wrote them on little-endian KVM hosts.
   */
  readonly byteOrder?: ByteOrder | undefined;
  /** Told when chunk headers turn out to be little-endian, with the place of the first one. */
  readonly onLittleEndian?: ((offset: number) => void) | undefined;
  /** @internal see {@link BlockPass} */
  readonly pass?: BlockPass | undefined;
}

/** How many bytes are looked at to tell the byte order. */
const PROBE_BYTES = 64 * 1024;

/** Decodes payloads of one section; remembers the order between them. */
export class SectionDecoder {
  #slots: number | undefined;
  #started = false;
  #byteOrder: ByteOrder | undefined;

  constructor(readonly options: SectionOptions = {}) {
    this.#byteOrder = options.byteOrder;
  }

  /**
   * Decodes one payload, START, PART or END: as for QEMU's loader, its first word tells which.
   * @throws FormatError `E_ORDER`, `E_SECTION`, `E_BLOCK_RANGE`, `E_TRUNCATED`; LimitError
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
      const order = checkOrder(word, offset, reader.limits);
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
    // After -1 there is no table: a block there is beyond every slot.
    const slots = this.#slots ?? 0;
    const scan = scanBlocks(reader, {
      byteOrder: await this.#tellByteOrder(reader, slots),
      slots,
      path: SECTION_NAME,
      terminated: true,
      pass: this.options.pass,
    });
    for await (const batch of scan) yield { type: 'blocks', batch };
    yield { type: 'end', offset: reader.offset - HEADER_BYTES };
  }

  /** Told once a stream, by its first chunks: one QEMU wrote them all. */
  async #tellByteOrder(reader: ByteReader, slots: number): Promise<ByteOrder> {
    if (this.#byteOrder !== undefined) return this.#byteOrder;
    const whole = !(await reader.tryEnsure(PROBE_BYTES));
    const bytes = reader.buffer.subarray(
      reader.pos,
      Math.min(reader.end, reader.pos + PROBE_BYTES),
    );
    if (bytes.subarray(0, HEADER_BYTES).every((byte) => byte === 0)) return 'big';
    this.#byteOrder = chunkByteOrder(bytes, slots, whole);
    if (this.#byteOrder === 'little') this.options.onLittleEndian?.(reader.offset);
    return this.#byteOrder;
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

/**
 * Encodes items as `section` bytes; after {@link decodeSection}, the same bytes again. Headers come
 * out big-endian, whatever they were.
 */
export async function* encodeSection(items: HtabItems): AsyncGenerator<Uint8Array> {
  const buffer = new BatchBuffer();
  for await (const item of items) yield encodeSectionItem(item, buffer);
}

/** The bytes that an item stands for in the `section` format. A view for blocks: use it at once. */
export function encodeSectionItem(item: HtabItem, buffer: BatchBuffer): Uint8Array {
  switch (item.type) {
    case 'order':
      return word(item.order);
    case 'no-hpt':
      return word(NO_HPT);
    case 'part':
      return word(0);
    case 'blocks':
      return buffer.encode(item.batch, 'big');
    case 'end':
      return new Uint8Array(HEADER_BYTES);
  }
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}
