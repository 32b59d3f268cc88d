import { createHash } from 'node:crypto';
import { Encoder } from '@msgpack/msgpack';
import * as v from 'valibot';
import { UsageError } from '../errors.js';
import { MAX_BLOCK_BYTES } from '../htab/block.js';
import type { HtabItem, HtabItems } from '../htab/items.js';
import { ARCHIVE_FORMAT, ARCHIVE_VERSION, type ArchiveHeader, HeaderSchema } from './schema.js';

const PIECE = 256 * 1024;

/** What the header says beside what the items tell. */
export type ArchiveOrigin = Pick<ArchiveHeader, 'source' | 'byteOrder' | 'host'> & {
  /** Default: now. */
  readonly time?: string | undefined;
};

/**
 * Encodes items as a MessagePack archive (docs/archive.md): a header map, a record for each block
 * and mark, a trailer map with counts, and the SHA-256 of all bytes before it.
 */
export async function* encodeArchive(
  items: HtabItems,
  origin: ArchiveOrigin | (() => ArchiveOrigin),
): AsyncGenerator<Uint8Array> {
  const encoder = new Encoder();
  const hash = createHash('sha256');
  const counts = { parts: 0, blocks: 0, valid: 0, invalid: 0 };
  // One buffer for all records: an array for each would leave the collector far behind.
  const buffer = new Uint8Array(PIECE + MAX_BLOCK_BYTES + 64);
  let length = 0;
  const add = (record: unknown): void => {
    const bytes = encoder.encodeSharedRef(record);
    buffer.set(bytes, length);
    length += bytes.length;
  };
  /** What has been encoded; a view, valid until the next record. */
  const take = (): Uint8Array => {
    const piece = buffer.subarray(0, length);
    hash.update(piece);
    length = 0;
    return piece;
  };

  let first = true;
  for await (const item of items) {
    if (first) add(header(item, origin));
    first = false;
    switch (item.type) {
      case 'order':
        add({ order: item.order });
        break;
      case 'blocks':
        for (const block of item.batch) {
          add([block.index, block.nInvalid, block.entries]);
          counts.blocks++;
          counts.valid += block.nValid;
          counts.invalid += block.nInvalid;
          if (length >= PIECE) yield take();
        }
        break;
      case 'part':
        counts.parts++;
        add(item.type);
        break;
      case 'no-hpt':
      case 'end':
        add(item.type);
        break;
    }
    if (length >= PIECE) yield take();
  }
  if (first) add(header(undefined, origin));
  add({ trailer: counts });
  yield take();
  yield encoder.encode(new Uint8Array(hash.digest()));
}

function header(
  first: HtabItem | undefined,
  given: ArchiveOrigin | (() => ArchiveOrigin),
): ArchiveHeader {
  const origin = typeof given === 'function' ? given() : given;
  const parsed = v.safeParse(HeaderSchema, {
    format: ARCHIVE_FORMAT,
    version: ARCHIVE_VERSION,
    order: first?.type === 'order' ? first.order : null,
    source: origin.source,
    byteOrder: origin.byteOrder,
    time: origin.time ?? new Date().toISOString(),
    host: origin.host,
  });
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  throw new UsageError('E_USAGE', `the archive's origin is wrong: ${issue.message}`, {
    path: `header / ${v.getDotPath(issue) ?? ''}`,
  });
}
