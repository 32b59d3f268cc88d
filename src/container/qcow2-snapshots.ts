import { readUpTo } from '../bytes/read.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError } from '../errors.js';
import { exceeded, type LimitOptions, type Limits, limitsOf } from '../limits.js';
import { checkedNumber, type Qcow2Header } from './qcow2-header.js';

/** An internal snapshot of a qcow2 image, as its table describes it. */
export interface Qcow2Snapshot {
  /** QEMU numbers snapshots, as text. Unique in an image that QEMU wrote. */
  readonly id: string;
  readonly name: string;
  /** When it was taken: seconds since 1970, and nanoseconds. */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  /** How long the guest had run, in nanoseconds. */
  readonly vmClock: bigint;
  /** Bytes of the VM state; 0 for a snapshot of the disk alone. */
  readonly vmStateSize: number;
  /** Instructions executed, when the guest ran with record/replay; else null. */
  readonly icount: bigint | null;
  /** The size of the guest's disk at that time, in bytes. */
  readonly diskSize: number;
  /** The snapshot's own L1 table: position in the file, and number of entries. */
  readonly l1Offset: number;
  readonly l1Size: number;
  /** Position of the entry in the file. */
  readonly offset: number;
}

const PATH = 'qcow2 snapshot table';
const ENTRY_LENGTH = 40;
const NO_ICOUNT = 0xffff_ffff_ffff_ffffn;

/**
 * Reads the snapshot table (block/qcow2-snapshot.c qcow2_do_read_snapshots, QEMU 10.2). Entries
 * begin at multiples of 8 and are of any length, so the table is read forward through a window.
 *
 * @throws FormatError `E_TRUNCATED`; LimitError `E_LIMIT`
 */
export async function readQcow2Snapshots(
  source: ByteSource,
  header: Qcow2Header,
  options?: LimitOptions,
): Promise<Qcow2Snapshot[]> {
  const limits = limitsOf(options);
  const snapshots: Qcow2Snapshot[] = [];
  const window = new TableWindow(source);
  let at = header.snapshotsOffset;
  for (let index = 0; index < header.snapshotCount; index++) {
    const entry = await readEntry(window, at, index, header, limits);
    snapshots.push(entry.snapshot);
    at = Math.ceil(entry.end / 8) * 8;
    const actual = entry.end - header.snapshotsOffset;
    if (actual > limits.qcow2TableBytes) {
      const details = { offset: entry.end, path: PATH, actual };
      throw exceeded(limits, 'qcow2TableBytes', 'the snapshot table is too long', details);
    }
  }
  return snapshots;
}

async function readEntry(
  window: TableWindow,
  at: number,
  index: number,
  header: Qcow2Header,
  limits: Limits,
): Promise<{ snapshot: Qcow2Snapshot; end: number }> {
  const fixed = await window.take(at, ENTRY_LENGTH, index);
  const idLength = fixed.readUInt16BE(12);
  const nameLength = fixed.readUInt16BE(14);
  const extraLength = fixed.readUInt32BE(36);
  if (extraLength > limits.qcow2ExtraBytes) {
    const message = `entry ${index} has too much extra data`;
    const details = { offset: at + 36, path: PATH, actual: extraLength };
    throw exceeded(limits, 'qcow2ExtraBytes', message, details);
  }
  const rest = await window.take(at + ENTRY_LENGTH, extraLength + idLength + nameLength, index);
  // Each of the extra fields is there only if the extra data reach its end.
  const extra = (field: number): bigint | undefined =>
    extraLength >= field + 8 ? rest.readBigUInt64BE(field) : undefined;
  const stateSize = extra(0) ?? BigInt(fixed.readUInt32BE(32));
  const diskSize = extra(8);
  const icount = extra(16) ?? NO_ICOUNT;
  const idAt = extraLength;
  const nameAt = idAt + idLength;
  const where = at + ENTRY_LENGTH;
  const snapshot: Qcow2Snapshot = {
    id: rest.toString('utf8', idAt, nameAt),
    name: rest.toString('utf8', nameAt, nameAt + nameLength),
    dateSeconds: fixed.readUInt32BE(16),
    dateNanoseconds: fixed.readUInt32BE(20),
    vmClock: fixed.readBigUInt64BE(24),
    vmStateSize: checkedNumber(stateSize, 'the size of the VM state', where, PATH),
    icount: icount === NO_ICOUNT ? null : icount,
    diskSize:
      diskSize === undefined
        ? Math.floor(header.diskSize / 512) * 512
        : checkedNumber(diskSize, 'the size of the disk', where + 8, PATH),
    l1Offset: checkedNumber(fixed.readBigUInt64BE(0), 'the position of the L1 table', at, PATH),
    l1Size: fixed.readUInt32BE(8),
    offset: at,
  };
  return { snapshot, end: where + rest.length };
}

/** Reads the table in pieces of 64 KiB, so that many small entries do not mean many reads. */
class TableWindow {
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(readonly source: ByteSource) {}

  async take(at: number, length: number, index: number): Promise<Buffer> {
    const end = this.#start + this.#bytes.length;
    if (at < this.#start || at + length > end) {
      // With the extra data that QEMU allows, the longest entry is 40 + 1024 + 2 * 65535 bytes.
      this.#check(at, length, index);
      const room = Buffer.allocUnsafeSlow(Math.max(length, 65536));
      const count = await readUpTo(this.source, room, at);
      this.#bytes = room.subarray(0, count);
      this.#start = at;
      if (count < length) throw this.#truncated(at, length, index, count);
    }
    return this.#bytes.subarray(at - this.#start, at - this.#start + length);
  }

  /** Nothing is allocated for what the file does not have. */
  #check(at: number, length: number, index: number): void {
    const left = Math.max(0, (this.source.size ?? Number.POSITIVE_INFINITY) - at);
    if (length > left) throw this.#truncated(at, length, index, left);
  }

  #truncated(at: number, length: number, index: number, count: number): FormatError {
    return new FormatError('E_TRUNCATED', `the file ends inside entry ${index}`, {
      offset: Math.min(at + count, this.source.size ?? at),
      path: PATH,
      expected: `${length} bytes from ${at}`,
      actual: String(count),
    });
  }
}
