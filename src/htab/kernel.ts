import type { ByteReader } from '../bytes/reader.js';
import { BatchBuffer, type ByteOrder, HEADER_BYTES } from './block.js';
import type { HtabItem, HtabItems } from './items.js';
import { slotsOfOrder } from './order.js';
import { type BlockPass, scanBlocks } from './scan.js';

/**
 * The framing of the HTAB fd (KVM_PPC_GET_HTAB_FD; arch/powerpc/kvm/book3s_64_mmu_hv.c
 * kvm_htab_read and kvm_htab_write): blocks one after another, headers in the byte order of the
 * host, entries big-endian. Nothing says where a pass ends, what the order is, or the byte order;
 * see sniff.ts.
 */
export interface KernelDecodeOptions {
  /** Byte order of the headers. */
  readonly byteOrder: ByteOrder;
  /** Order of the table, where it is known: then blocks are checked against it. */
  readonly order?: number | undefined;
  /** @internal see {@link BlockPass} */
  readonly pass?: BlockPass | undefined;
}

/**
 * Decodes a file of HTAB blocks as one part. The kernel never emits a block {0,0,0}, and takes it
 * as nothing to do; where one stands it is read as the end of a part (see `markParts` below).
 * @throws FormatError `E_BLOCK_RANGE`, `E_TRUNCATED`
 */
export async function* decodeKernel(
  reader: ByteReader,
  options: KernelDecodeOptions,
): AsyncGenerator<HtabItem> {
  const { byteOrder, order } = options;
  if (order !== undefined) yield { type: 'order', order, offset: reader.offset };
  do {
    yield { type: 'part', offset: reader.offset };
    const scan = scanBlocks(reader, {
      byteOrder,
      slots: order === undefined ? undefined : slotsOfOrder(order),
      path: 'HTAB blocks',
      terminated: false,
      pass: options.pass,
    });
    let next = await scan.next();
    for (; !next.done; next = await scan.next()) yield { type: 'blocks', batch: next.value };
    yield { type: 'end', offset: reader.offset - (next.value ? HEADER_BYTES : 0) };
  } while (!(await reader.atEnd()));
}

export interface KernelEncodeOptions {
  readonly byteOrder: ByteOrder;
  /**
   * Ends every part with a block {0,0,0}, which the kernel's write side ignores, so that the parts
   * of a section survive the way through this framing and back. Default false.
   */
  readonly markParts?: boolean | undefined;
}

/**
 * Encodes the blocks of all parts as the kernel's write side takes them. A guest without HPT gives
 * no bytes, as the fd of a radix guest does.
 */
export async function* encodeKernel(
  items: HtabItems,
  options: KernelEncodeOptions,
): AsyncGenerator<Uint8Array> {
  const buffer = new BatchBuffer();
  for await (const item of items) {
    if (item.type === 'blocks') yield buffer.encode(item.batch, options.byteOrder);
    else if (item.type === 'end' && options.markParts) yield new Uint8Array(HEADER_BYTES);
  }
}
