import { readExactly, readFully } from '../bytes/read.js';
import type { OperationOptions } from '../bytes/reader.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError, throwIfAborted, UnsupportedError } from '../errors.js';
import { exceeded, type Limits, limitsOf } from '../limits.js';
import { printable } from '../printable.js';
import { type Extent, Qcow2Clusters } from './qcow2-clusters.js';
import { type ClusterDecoder, clusterDecoder } from './qcow2-compressed.js';
import { type Qcow2Header, qcow2Refusal } from './qcow2-header.js';
import type { Qcow2Snapshot } from './qcow2-snapshots.js';

export type Qcow2VmStateOptions = Pick<OperationOptions, 'signal' | 'limits'>;

const PATH = 'qcow2 VM state';
const MAX_INT32 = 0x7fff_ffff;

/**
 * The VM state of an internal snapshot: `vmStateSize` bytes that can be read anywhere.
 *
 * It stands in guest space above the disk, from the first L1 entry that covers no byte of it, and
 * is reached through the snapshot's own L1 table (block/qcow2.h qcow2_vm_state_offset,
 * block/qcow2-snapshot.c qcow2_snapshot_goto, QEMU 10.2). Closing it closes the image's source.
 */
export class Qcow2VmStateSource implements ByteSource {
  readonly seekable = true;
  readonly size: number;
  readonly name: string;
  readonly #clusters: Qcow2Clusters;
  #decoder: ClusterDecoder | undefined;
  /** The compressed cluster that was used last. */
  #cluster: { readonly hostOffset: number; readonly bytes: Uint8Array } | undefined;

  private constructor(
    readonly image: ByteSource,
    readonly header: Qcow2Header,
    readonly snapshot: Qcow2Snapshot,
    l1: DataView,
    readonly options: Qcow2VmStateOptions,
    size = snapshot.vmStateSize,
  ) {
    this.size = size;
    this.name = `${image.name}, snapshot ${printable(snapshot.id)}`;
    this.#clusters = clustersOf(image, header, snapshot, l1);
  }

  /**
   * Reads the part of the snapshot's L1 table that covers the VM state.
   * @throws UnsupportedError `E_UNSUPPORTED` for encrypted images, external data files and
   *   snapshots without a VM state; FormatError `E_CONTAINER`, `E_TRUNCATED`; LimitError `E_LIMIT`
   */
  static async open(
    image: ByteSource,
    header: Qcow2Header,
    snapshot: Qcow2Snapshot,
    options: Qcow2VmStateOptions = {},
  ): Promise<Qcow2VmStateSource> {
    const refusal = qcow2Refusal(header);
    if (refusal !== undefined) throw refusal;
    if (snapshot.vmStateSize === 0) {
      throw new UnsupportedError(
        'E_UNSUPPORTED',
        `snapshot ${printable(snapshot.id)} (${printable(snapshot.name)}) holds the disk alone: its VM state is with another disk of the guest, or was never saved`,
        { offset: snapshot.offset, path: PATH },
      );
    }
    const first = vmStateL1Index(header, snapshot);
    const count = Math.ceil(snapshot.vmStateSize / l1Coverage(header));
    const l1 = await readL1(image, header, snapshot, first, count, limitsOf(options.limits));
    const source = new Qcow2VmStateSource(image, header, snapshot, l1, options);
    return (await source.#isMappedRam()) ? source.#whole(first) : source;
  }

  /**
   * Whether the stream keeps RAM at fixed places (mapped-ram). The recorded size then counts the
   * bytes that were sent, and the stream reaches further (migration/savevm.c save_snapshot and
   * qemu_file_transferred, as seen with QEMU 11.1).
   */
  async #isMappedRam(): Promise<boolean> {
    const head = new Uint8Array(2048);
    // What cannot be read is for the reader to find; this only looks.
    const length = await this.read(head, 0).catch((error: unknown) => {
      if (error instanceof FormatError) return 0;
      throw error;
    });
    const text = Buffer.from(head.buffer, 0, length).toString('latin1');
    return text.startsWith('QEVM') && text.includes('\x0amapped-ram');
  }

  /** The same state up to the end of its last cluster. */
  async #whole(first: number): Promise<Qcow2VmStateSource> {
    const { image, header, snapshot, options } = this;
    const coverage = l1Coverage(header);
    const limits = limitsOf(options.limits);
    const l1 = await readL1(image, header, snapshot, first, snapshot.l1Size - first, limits);
    let last = l1.byteLength / 8 - 1;
    while (last > 0 && l1.getBigUint64(last * 8) === 0n) last--;
    const clusters = clustersOf(image, header, snapshot, l1);
    let size = snapshot.vmStateSize;
    const end = (last + 1) * coverage;
    for (let at = last * coverage; at < end; ) {
      throwIfAborted(options.signal);
      const extent = await clusters.map(at, end - at);
      at += extent.length;
      if (extent.kind !== 'zero') size = Math.max(size, at);
    }
    return new Qcow2VmStateSource(image, header, snapshot, l1, options, size);
  }

  /** Fills the target as far as the VM state goes; runs in the file are read with one call. */
  async read(target: Uint8Array, position: number): Promise<number> {
    const length = Math.max(0, Math.min(target.length, this.size - position));
    for (let done = 0; done < length; ) {
      throwIfAborted(this.options.signal);
      const extent = await this.#clusters.map(position + done, length - done);
      await this.#fill(target.subarray(done, done + extent.length), extent);
      done += extent.length;
    }
    return length;
  }

  async #fill(target: Uint8Array, extent: Extent): Promise<void> {
    if (extent.kind === 'zero') {
      target.fill(0);
    } else if (extent.kind === 'data') {
      await readFully(this.image, target, extent.hostOffset, 'a cluster of the VM state', PATH);
    } else {
      const cluster = await this.#decompress(extent.hostOffset, extent.hostLength);
      target.set(cluster.subarray(extent.skip, extent.skip + extent.length));
    }
  }

  async #decompress(hostOffset: number, hostLength: number): Promise<Uint8Array> {
    const last = this.#cluster;
    if (last?.hostOffset === hostOffset) return last.bytes;
    this.#decoder ??= await clusterDecoder(this.header.compression);
    const raw = await readExactly(this.image, hostOffset, hostLength, 'a cluster', PATH);
    const bytes = this.#decoder(raw, this.header.clusterSize, hostOffset);
    this.#cluster = { hostOffset, bytes };
    return bytes;
  }

  close(): Promise<void> {
    return this.image.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * The L1 index where the VM state begins. QEMU resizes the disk to the snapshot's size before it
 * reads the state, but only when the sizes differ in whole sectors: otherwise the header's own
 * size, which may have a part of a sector, counts.
 */
export function vmStateL1Index(header: Qcow2Header, snapshot: Qcow2Snapshot): number {
  const same = snapshot.diskSize === Math.floor(header.diskSize / 512) * 512;
  const diskSize = same ? header.diskSize : snapshot.diskSize;
  return Math.ceil(diskSize / l1Coverage(header));
}

/** Where the entry of that number stands in the file. */
function l1At({ l1Offset }: Qcow2Snapshot, index: number): number {
  return l1Offset + index * 8;
}

/** `l1`: the part of the snapshot's L1 table that covers the VM state. */
function clustersOf(
  image: ByteSource,
  header: Qcow2Header,
  snapshot: Qcow2Snapshot,
  l1: DataView,
): Qcow2Clusters {
  return new Qcow2Clusters(image, header, l1, l1At(snapshot, vmStateL1Index(header, snapshot)));
}

/** Guest bytes that one L1 entry covers. */
function l1Coverage(header: Qcow2Header): number {
  return (header.clusterSize / (header.extendedL2 ? 16 : 8)) * header.clusterSize;
}

/** `count` entries of the snapshot's L1 table from `first` on. */
async function readL1(
  image: ByteSource,
  header: Qcow2Header,
  snapshot: Qcow2Snapshot,
  first: number,
  count: number,
  limits: Limits,
): Promise<DataView> {
  const { l1Offset, l1Size } = snapshot;
  if (l1Size * 8 > limits.qcow2L1Bytes) {
    throw exceeded(limits, 'qcow2L1Bytes', 'the L1 table of the snapshot is too long', {
      offset: snapshot.offset + 8,
      path: PATH,
      actual: l1Size * 8,
    });
  }
  if (l1Offset % header.clusterSize !== 0) {
    throw new FormatError('E_CONTAINER', 'the L1 table of the snapshot begins at no cluster', {
      offset: snapshot.offset,
      path: PATH,
      expected: `a multiple of ${header.clusterSize}`,
      actual: String(l1Offset),
    });
  }
  if (first > MAX_INT32 || first + count > l1Size) {
    throw new FormatError('E_CONTAINER', 'the VM state reaches beyond the L1 table', {
      offset: snapshot.offset + 8,
      path: PATH,
      expected: `at least ${first + count} entries`,
      actual: String(l1Size),
    });
  }
  const bytes = await readExactly(image, l1At(snapshot, first), count * 8, 'the L1 table', PATH);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
