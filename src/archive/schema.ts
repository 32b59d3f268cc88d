import * as v from 'valibot';
import { MAX_RUN } from '../htab/block.js';
import { MAX_ORDER, MIN_ORDER } from '../htab/order.js';

/** The `format` field of the header: what the file is. */
export const ARCHIVE_FORMAT = 'spapr-htab';
export const ARCHIVE_VERSION = 1;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const order = v.pipe(v.number(), v.integer(), v.minValue(MIN_ORDER), v.maxValue(MAX_ORDER));
const shortText = v.pipe(v.string(), v.maxLength(1024));

/** First record: what the archive holds and where it comes from. docs/archive.md describes it. */
export const HeaderSchema = v.object({
  format: v.literal(ARCHIVE_FORMAT),
  version: v.literal(ARCHIVE_VERSION),
  /** log2 of the table's size in bytes; null when it is not known or there is no HPT. */
  order: v.nullable(order),
  /** What the blocks were read from. */
  source: v.object({
    /** `snapshot`, `kernel`, `section`, `image`, `archive` or `library`. */
    kind: shortText,
    /** Machine type, such as `pseries-7.2`, when the source told it. */
    machine: v.optional(shortText),
  }),
  /** Byte order of the source's block headers; null when it has none. Entries are big-endian. */
  byteOrder: v.nullable(v.picklist(['little', 'big'])),
  /** When the archive was written, ISO 8601 in UTC. */
  time: v.pipe(v.string(), v.isoTimestamp()),
  /** Facts of the host that the table came from, where they are known. */
  host: v.nullable(
    v.object({
      /** Page size in bytes. */
      pageSize: v.optional(count),
      /** Kernel release. */
      kernel: v.optional(shortText),
    }),
  ),
});
export type ArchiveHeader = v.InferOutput<typeof HeaderSchema>;

/** A block: index, number of invalid entries, and the valid ones. */
export const BlockSchema = v.tuple([
  v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffffffff)),
  v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_RUN)),
  v.pipe(
    v.instance(Uint8Array),
    v.check((bytes) => bytes.length % 16 === 0 && bytes.length <= MAX_RUN * 16, 'whole entries'),
  ),
]);

/** `order` records (the START payload) stand as a map, the other marks as strings. */
export const OrderSchema = v.strictObject({ order });
export const MarkSchema = v.picklist(['no-hpt', 'part', 'end']);

/** Last record before the checksum. Counts are of records and entries in the archive. */
export const TrailerSchema = v.object({
  trailer: v.object({ parts: count, blocks: count, valid: count, invalid: count }),
});
export type ArchiveCounts = v.InferOutput<typeof TrailerSchema>['trailer'];
