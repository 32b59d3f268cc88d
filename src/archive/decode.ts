import { createHash, type Hash } from 'node:crypto';
import { DecodeError, Decoder } from '@msgpack/msgpack';
import * as v from 'valibot';
import type { ByteReader } from '../bytes/reader.js';
import { FormatError, UnsupportedError } from '../errors.js';
import { BlockBatch, HEADER_BYTES, MAX_BLOCK_BYTES, MAX_RUN } from '../htab/block.js';
import type { HtabItem } from '../htab/items.js';
import { checkOrder, HPTE_BYTES, slotsOfOrder } from '../htab/order.js';
import { endOfRecord, MAX_RECORD_BYTES } from './record.js';
import {
  ARCHIVE_FORMAT,
  ARCHIVE_VERSION,
  type ArchiveCounts,
  type ArchiveHeader,
  BlockSchema,
  HeaderSchema,
  MarkSchema,
  OrderSchema,
  TrailerSchema,
} from './schema.js';

/** Bytes of the checksum record: `bin 8` of 32 bytes. */
const CHECKSUM_BYTES = 34;
const PIECE = 64 * 1024;

/** An archive that is being read: its header, then its items. */
export interface ArchiveReading {
  readonly header: ArchiveHeader;
  /** Ends only after trailer and checksum have been found right. */
  readonly items: AsyncGenerator<HtabItem>;
}

/**
 * Reads an archive (docs/archive.md). What the items say is only vouched for when they have come
 * to their end: the checksum is the last thing in the file.
 * @throws FormatError `E_ARCHIVE`, `E_CHECKSUM`, `E_TRUNCATED`, `E_BLOCK_RANGE`; UnsupportedError
 *   `E_VERSION`; LimitError. Offsets are those of the record at fault.
 */
export async function readArchive(reader: ByteReader): Promise<ArchiveReading> {
  const decoding = new ArchiveDecoding(reader);
  return { header: await decoding.header(), items: decoding.items() };
}

class ArchiveDecoding {
  readonly #hash: Hash = createHash('sha256');
  readonly #decoder = new Decoder({
    maxStrLength: 4096,
    maxBinLength: MAX_RUN * HPTE_BYTES,
    maxArrayLength: 3,
    maxMapLength: 32,
    maxExtLength: 0,
    useBigInt64: false,
  });
  /** Where the record that was read last begins, and its number. */
  #offset: number;
  #record = -1;
  #header: ArchiveHeader | undefined;

  constructor(readonly reader: ByteReader) {
    this.#offset = reader.offset;
  }

  #bad(message: string, details: { path?: string; cause?: unknown } = {}): FormatError {
    const path = details.path ?? `records[${this.#record}]`;
    return new FormatError('E_ARCHIVE', message, { ...details, path, offset: this.#offset });
  }

  /** The next record, or undefined where the file ends before one is complete. */
  async #next(): Promise<unknown> {
    const { reader } = this;
    this.#offset = reader.offset;
    this.#record++;
    await reader.tryEnsure(1);
    for (let seen = 0; reader.available > seen; ) {
      try {
        const end = endOfRecord(reader.view, reader.pos, reader.end);
        if (end !== undefined) {
          const bytes = reader.buffer.subarray(reader.pos, end);
          this.#hash.update(bytes);
          reader.pos = end;
          return this.#decoder.decode(bytes);
        }
      } catch (error) {
        if (!(error instanceof DecodeError || error instanceof RangeError)) throw error;
        throw this.#bad(`it is not MessagePack as an archive has it: ${error.message}`, {
          cause: error,
        });
      }
      if (reader.available >= MAX_RECORD_BYTES)
        throw this.#bad('a record is longer than any can be');
      seen = reader.available;
      await reader.tryEnsure(Math.min(Math.max(PIECE, 2 * seen), MAX_RECORD_BYTES));
    }
    return undefined;
  }

  async header(): Promise<ArchiveHeader> {
    const record = await this.#next();
    const loose = v.safeParse(v.object({ format: v.unknown(), version: v.unknown() }), record);
    if (!loose.success || loose.output.format !== ARCHIVE_FORMAT) {
      throw this.#bad('this is no HPT archive', { path: 'header / format' });
    }
    if (loose.output.version !== ARCHIVE_VERSION) {
      throw new UnsupportedError('E_VERSION', 'this version of the archive is not known', {
        offset: 0,
        path: 'header / version',
        expected: String(ARCHIVE_VERSION),
        actual: String(loose.output.version),
      });
    }
    const header = v.safeParse(HeaderSchema, record);
    if (!header.success) {
      const issue = header.issues[0];
      throw this.#bad(issue.message, { path: `header / ${v.getDotPath(issue) ?? ''}` });
    }
    this.#header = header.output;
    return header.output;
  }

  async *items(): AsyncGenerator<HtabItem> {
    const counts = { parts: 0, blocks: 0, valid: 0, invalid: 0 };
    const gathered = new BlockGatherer();
    let slots = this.#header?.order ? this.#slots(this.#header.order) : 2 ** 42;
    const offset = (): number => this.#offset;
    for (;;) {
      const record = await this.#next();
      if (Array.isArray(record)) {
        const block = v.safeParse(BlockSchema, record);
        if (!block.success) throw this.#bad(`a block is wrong: ${block.issues[0].message}`);
        const [index, nInvalid, entries] = block.output;
        const nValid = entries.length / HPTE_BYTES;
        if (index + nValid + nInvalid > slots) {
          throw new FormatError('E_BLOCK_RANGE', 'a block reaches beyond the table', {
            offset: offset(),
            path: `records[${this.#record}]`,
            expected: `at most ${slots} slots`,
            actual: `index ${index}, ${nValid} valid and ${nInvalid} invalid`,
          });
        }
        counts.blocks++;
        counts.valid += nValid;
        counts.invalid += nInvalid;
        gathered.add(index, nInvalid, entries);
        if (gathered.full) yield { type: 'blocks', batch: gathered.take(offset()) };
        continue;
      }
      if (!gathered.empty) yield { type: 'blocks', batch: gathered.take(offset()) };
      const mark = v.safeParse(MarkSchema, record);
      const order = v.safeParse(OrderSchema, record);
      if (mark.success) {
        if (mark.output === 'part') counts.parts++;
        yield { type: mark.output, offset: offset() };
      } else if (order.success) {
        slots = this.#slots(order.output.order);
        yield { type: 'order', order: order.output.order, offset: offset() };
      } else {
        await this.#trailer(record, counts);
        return;
      }
    }
  }

  #slots(order: number): number {
    const path = `records[${this.#record}]`;
    return slotsOfOrder(checkOrder(order, this.#offset, this.reader.limits, path));
  }

  async #trailer(record: unknown, counts: ArchiveCounts): Promise<void> {
    const { reader } = this;
    // The checksum is a record as well, by its form.
    if (record === undefined || record instanceof Uint8Array) {
      throw new FormatError('E_TRUNCATED', 'the archive ends before its trailer', {
        offset: this.#offset,
      });
    }
    const trailer = v.safeParse(TrailerSchema, record);
    if (!trailer.success) throw this.#bad('no record of an archive looks like this');
    for (const key of ['parts', 'blocks', 'valid', 'invalid'] as const) {
      if (trailer.output.trailer[key] !== counts[key]) {
        throw new FormatError('E_CHECKSUM', `the trailer counts other ${key} than there are`, {
          offset: this.#offset,
          path: `trailer / ${key}`,
          expected: String(counts[key]),
          actual: String(trailer.output.trailer[key]),
        });
      }
    }
    const at = reader.offset;
    await reader.ensure(CHECKSUM_BYTES, 'the checksum');
    const checksum = Buffer.from(reader.take(CHECKSUM_BYTES));
    const digest = this.#hash.digest();
    if (checksum[0] !== 0xc4 || !(await reader.atEnd())) {
      throw this.#bad('something else than the checksum follows the trailer');
    }
    if (checksum[1] !== 32 || !checksum.subarray(2).equals(digest)) {
      throw new FormatError('E_CHECKSUM', 'the archive was changed or damaged after writing', {
        offset: at,
        path: 'checksum',
        expected: digest.toString('hex'),
        actual: checksum.toString('hex'),
      });
    }
  }
}

/** Joins blocks into batches, in a buffer that is used again. */
class BlockGatherer {
  readonly #buffer = new Uint8Array(2 * MAX_BLOCK_BYTES);
  readonly #view = new DataView(this.#buffer.buffer);
  #count = 0;
  #length = 0;

  get empty(): boolean {
    return this.#count === 0;
  }

  /** Whether the largest block may not fit any more. */
  get full(): boolean {
    return this.#length > MAX_BLOCK_BYTES;
  }

  add(index: number, nInvalid: number, entries: Uint8Array): void {
    this.#view.setUint32(this.#length, index);
    this.#view.setUint16(this.#length + 4, entries.length / HPTE_BYTES);
    this.#view.setUint16(this.#length + 6, nInvalid);
    this.#buffer.set(entries, this.#length + HEADER_BYTES);
    this.#length += HEADER_BYTES + entries.length;
    this.#count++;
  }

  /** The blocks so far; valid until the next is added. */
  take(offset: number): BlockBatch {
    const batch = new BlockBatch(
      this.#buffer.subarray(0, this.#length),
      'big',
      this.#count,
      offset,
    );
    this.#count = 0;
    this.#length = 0;
    return batch;
  }
}
