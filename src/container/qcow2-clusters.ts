import { readExactly } from '../bytes/read.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError } from '../errors.js';
import { type Qcow2Header, SUBCLUSTERS } from './qcow2-header.js';

/**
 * What stands behind a run of guest bytes. `hostOffset` is a position in the image file. A zero run
 * is one that reads as zeros: marked so, or not allocated (the backing file is never asked).
 */
export type Extent =
  | { readonly kind: 'zero'; readonly length: number }
  | { readonly kind: 'data'; readonly length: number; readonly hostOffset: number }
  | {
      readonly kind: 'compressed';
      readonly length: number;
      readonly hostOffset: number;
      /** Bytes that the compressed cluster takes at most; the file may end before that. */
      readonly hostLength: number;
      /** Where in the decompressed cluster the run begins. */
      readonly skip: number;
    };

/** An L2 table, and where it stands in the file. */
interface L2Table {
  readonly view: DataView;
  readonly offset: number;
}

/** Memory for L2 tables: 8 of the largest, as many as needed of the small ones. */
const L2_CACHE_BYTES = 16 * 1024 * 1024;

const PATH = 'qcow2';
const COMPRESSED = 0x4000_0000;
const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;

/**
 * Maps guest positions to positions in a qcow2 file through an L1 table and the L2 tables that it
 * points to (block/qcow2-cluster.c qcow2_get_host_offset, QEMU 10.2). Entries are read as two
 * 32-bit halves, so that no bigint is made per cluster.
 *
 * Nothing here follows a chain: L1 to L2 to data is the whole depth, so tables that point at each
 * other or at themselves give wrong bytes, but an end.
 */
export class Qcow2Clusters {
  readonly #entrySize: number;
  readonly #l2Entries: number;
  /** Guest bytes that one L1 entry covers: up to 2^39. */
  readonly coverage: number;
  readonly #cache = new Map<number, L2Table>();
  readonly #cacheLimit: number;
  readonly #fileSize: number;

  /**
   * `l1` holds the entries from the one that covers position 0 of {@link map} on; `l1Offset` is where
   * they stand in the file.
   */
  constructor(
    readonly source: ByteSource,
    readonly header: Qcow2Header,
    readonly l1: DataView,
    readonly l1Offset: number,
  ) {
    this.#entrySize = header.extendedL2 ? 16 : 8;
    this.#l2Entries = header.clusterSize / this.#entrySize;
    this.coverage = header.clusterSize * this.#l2Entries;
    this.#cacheLimit = Math.max(2, Math.floor(L2_CACHE_BYTES / header.clusterSize));
    this.#fileSize = source.size ?? 0;
  }

  /** The longest run of one kind that begins at `position`, of at most `limit` bytes (> 0). */
  async map(position: number, limit: number): Promise<Extent> {
    const l1Index = Math.floor(position / this.coverage);
    const inside = position - l1Index * this.coverage;
    const wanted = Math.min(limit, this.coverage - inside);
    const table = await this.#l2Table(l1Index);
    if (table === undefined) return { kind: 'zero', length: wanted };

    const first = this.#run(table, inside, wanted);
    let length = first.length;
    while (length < wanted && first.kind !== 'compressed') {
      const next = this.#run(table, inside + length, wanted - length);
      if (next.kind !== first.kind) break;
      if (
        first.kind === 'data' &&
        next.kind === 'data' &&
        next.hostOffset !== first.hostOffset + length
      ) {
        break;
      }
      length += next.length;
    }
    return { ...first, length };
  }

  async #l2Table(l1Index: number): Promise<L2Table | undefined> {
    const at = l1Index * 8;
    if (at + 8 > this.l1.byteLength) return undefined;
    const offset = offsetOf(this.l1.getUint32(at), this.l1.getUint32(at + 4));
    if (offset === 0) return undefined;
    const cached = this.#cache.get(offset);
    if (cached !== undefined) {
      this.#cache.delete(offset);
      this.#cache.set(offset, cached);
      return cached;
    }
    const { clusterSize } = this.header;
    if (offset % clusterSize !== 0) {
      throw this.#damaged('an L2 table', this.l1Offset + at, unaligned(offset));
    }
    const bytes = await readExactly(this.source, offset, clusterSize, 'an L2 table', PATH);
    const table = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset };
    this.#cache.set(offset, table);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= this.#cacheLimit) break;
      this.#cache.delete(oldest);
    }
    return table;
  }

  /** The run at `inside` the coverage of one L2 table, which ends with its cluster at the latest. */
  #run({ view: table, offset: tableOffset }: L2Table, inside: number, limit: number): Extent {
    const { clusterSize, clusterBits, version, extendedL2 } = this.header;
    const index = Math.floor(inside / clusterSize);
    const skip = inside - index * clusterSize;
    const length = Math.min(limit, clusterSize - skip);
    const at = index * this.#entrySize;
    const where = tableOffset + at;
    const high = table.getUint32(at);
    const low = table.getUint32(at + 4);
    if (high & COMPRESSED)
      return this.#compressed(table.getBigUint64(at), clusterBits, skip, length, where);

    const hostOffset = offsetOf(high, low);
    if (hostOffset % clusterSize !== 0)
      throw this.#damaged('a cluster', where, unaligned(hostOffset));
    if (extendedL2) {
      const bitmap = { zeros: table.getUint32(at + 8), allocated: table.getUint32(at + 12) };
      return this.#subclusters(bitmap, where, hostOffset, skip, length);
    }
    if (low & 1) {
      if (version === 2) {
        throw this.#damaged('a cluster', where, 'a zero cluster in an image of version 2');
      }
      return { kind: 'zero', length };
    }
    if (hostOffset === 0) return { kind: 'zero', length };
    return { kind: 'data', length, hostOffset: hostOffset + skip };
  }

  /**
   * The bitmap of an extended L2 entry: in its low half a bit for each subcluster that is
   * allocated, in its high half one for each that reads as zeros; never both
   * (block/qcow2.h qcow2_get_subcluster_type).
   */
  #subclusters(
    { zeros, allocated }: { zeros: number; allocated: number },
    where: number,
    hostOffset: number,
    skip: number,
    limit: number,
  ): Extent {
    if ((zeros & allocated) !== 0 || (hostOffset === 0 && allocated !== 0)) {
      throw this.#damaged('a cluster', where, 'a bitmap that contradicts itself');
    }
    const size = this.header.clusterSize / SUBCLUSTERS;
    const first = Math.floor(skip / size);
    const isData = ((allocated >>> first) & 1) === 1;
    let end = first + 1;
    while (end < SUBCLUSTERS && (((allocated >>> end) & 1) === 1) === isData) end++;
    const length = Math.min(limit, end * size - skip);
    if (!isData) return { kind: 'zero', length };
    return { kind: 'data', length, hostOffset: hostOffset + skip };
  }

  /**
   * A compressed cluster stands anywhere, byte by byte; its length is given in sectors of 512 bytes
   * and includes bytes of its neighbours (docs/interop/qcow2.rst, QEMU 10.2).
   */
  #compressed(
    entry: bigint,
    clusterBits: number,
    skip: number,
    length: number,
    where: number,
  ): Extent {
    const shift = BigInt(62 - (clusterBits - 8));
    const offset = entry & ((1n << shift) - 1n);
    const sectors = Number((entry & ((1n << 62n) - 1n)) >> shift) + 1;
    if (offset >= BigInt(this.#fileSize)) {
      throw this.#damaged('a compressed cluster', where, `${offset}, outside the file`);
    }
    const hostOffset = Number(offset);
    const hostLength = Math.min(sectors * 512 - (hostOffset % 512), this.#fileSize - hostOffset);
    return { kind: 'compressed', length, hostOffset, hostLength, skip };
  }

  /** `offset`: of the entry that says so. */
  #damaged(what: string, offset: number, actual: string): FormatError {
    return new FormatError('E_CONTAINER', `${what} cannot stand where a table says`, {
      offset,
      path: PATH,
      expected: `an offset that is a multiple of ${this.header.clusterSize}`,
      actual,
    });
  }
}

const unaligned = (offset: number): string => `${offset}, unaligned`;

/** Bits 9 to 55 of an entry; 0 means that nothing is allocated. At most 2^56, exact for files. */
function offsetOf(high: number, low: number): number {
  return (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
}
