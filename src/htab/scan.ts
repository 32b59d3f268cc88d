import type { ByteReader } from '../bytes/reader.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError } from '../errors.js';
import { BlockBatch, type ByteOrder, HEADER_BYTES } from './block.js';
import { HPTE_BYTES } from './order.js';

/** What is known of blocks before they are read. */
export interface BlockFrame {
  readonly byteOrder: ByteOrder;
  /** Slots of the table where its order is known: blocks may not reach beyond. */
  readonly slots?: number | undefined;
}

/**
 * Takes blocks itself, as they stand in a source from `offset` on, and resolves to how many bytes
 * it took: of whole blocks that fit the table, none of them an end mark. 0 where it cannot.
 */
export type BlockPass = (source: ByteSource, offset: number, frame: BlockFrame) => Promise<number>;

/** So many bytes of blocks go by before a {@link BlockPass} is asked: most parts are short. */
const PASS_AFTER = 256 * 1024;

/**
 * So many slots at most are in one batch, beyond its first block: who takes it works for as long as
 * that lasts. Batches of real tables have fewer.
 */
const BATCH_SLOTS = 2 ** 26;

export interface ScanOptions extends BlockFrame {
  /** For messages. */
  readonly path: string;
  /** Whether the blocks must be ended by a marker (a section), or by the end of the file. */
  readonly terminated: boolean;
  /** Is given blocks that are not in the window yet; what it takes is not yielded. Default: none. */
  readonly pass?: BlockPass | undefined;
}

/**
 * Yields whole blocks up to an end marker {0,0,0}, which is taken, or up to the end of the source
 * where that is allowed. Returns whether the marker was there.
 *
 * QEMU checks `index + n_valid + n_invalid` in 32 bits, which can wrap (hw/ppc/spapr.c htab_load,
 * 1.6 to 10.2); here the sum is exact.
 * @throws FormatError `E_BLOCK_RANGE`, `E_TRUNCATED`
 */
export async function* scanBlocks(
  reader: ByteReader,
  options: ScanOptions,
): AsyncGenerator<BlockBatch, boolean> {
  const { byteOrder, path } = options;
  const little = byteOrder === 'little';
  const slots = options.slots ?? Number.POSITIVE_INFINITY;
  const begin = reader.offset;
  let { pass } = options;
  for (;;) {
    const { view, buffer } = reader;
    const start = reader.pos;
    const end = reader.end;
    const offset = reader.offset;
    let at = start;
    let count = 0;
    let covered = 0;
    let marker = false;
    let needed = HEADER_BYTES;
    while (end - at >= HEADER_BYTES && covered < BATCH_SLOTS) {
      const index = view.getUint32(at, little);
      const nValid = view.getUint16(at + 4, little);
      const nInvalid = view.getUint16(at + 6, little);
      if (nValid === 0 && nInvalid === 0 && index === 0) {
        marker = true;
        break;
      }
      if (index + nValid + nInvalid > slots) {
        throw new FormatError('E_BLOCK_RANGE', 'a block reaches beyond the table', {
          offset: offset + (at - start),
          path,
          expected: `at most ${slots} slots`,
          actual: `index ${index}, ${nValid} valid and ${nInvalid} invalid`,
        });
      }
      const size = HEADER_BYTES + nValid * HPTE_BYTES;
      if (end - at < size) {
        needed = size;
        break;
      }
      at += size;
      covered += nValid + nInvalid;
      count++;
    }
    if (at > start) {
      reader.pos = at;
      yield new BlockBatch(buffer.subarray(start, at), byteOrder, count, offset);
    }
    if (marker) {
      reader.pos += HEADER_BYTES;
      return true;
    }
    if (pass !== undefined && reader.offset - begin >= PASS_AFTER) {
      const taken = await pass(reader.source, reader.offset, options);
      if (taken === 0) {
        pass = undefined;
      } else {
        // Where it stops, something stands that is looked at here. What was needed lies behind.
        reader.seek(reader.offset + taken);
        needed = HEADER_BYTES;
      }
    }
    if (await reader.tryEnsure(needed)) continue;
    if (!options.terminated && reader.available === 0) return false;
    throw reader.truncated(needed, describe(path, needed, reader.available));
  }
}

function describe(path: string, needed: number, available: number): string {
  if (available >= HEADER_BYTES) return `the entries of a block of ${path}`;
  return needed === HEADER_BYTES && available === 0
    ? `${path}: its end marker is missing`
    : `the header of a block of ${path}`;
}
