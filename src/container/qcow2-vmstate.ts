import type { ByteSource } from '../bytes/source.js';
import { FormatError, LimitError, throwIfAborted, UnsupportedError } from '../errors.js';
import { printable } from './printable.js';
import { type Extent, Qcow2Clusters } from './qcow2-clusters.js';
import { type ClusterDecoder, clusterDecoder } from './qcow2-compressed.js';
import { QCOW2_LIMITS, type Qcow2Header, qcow2Refusal } from './qcow2-header.js';
import type { Qcow2Snapshot } from './qcow2-snapshots.js';
import { readExactly, readFully } from './read.js';

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
    readonly signal: AbortSignal | undefined,
  ) {
    this.size = snapshot.vmStateSize;
    this.name = `${image.name}, snapshot ${printable(snapshot.id)}`;
    this.#clusters = new Qcow2Clusters(image, header, l1);
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
    signal?: AbortSignal,
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
    const l1 = await readL1(image, header, snapshot);
    return new Qcow2VmStateSource(image, header, snapshot, l1, signal);
  }

  /** Fills the target as far as the VM state goes; runs in the file are read with one call. */
  async read(target: Uint8Array, position: number): Promise<number> {
    const length = Math.max(0, Math.min(target.length, this.size - position));
    for (let done = 0; done < length; ) {
      throwIfAborted(this.signal);
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
  const entrySize = header.extendedL2 ? 16 : 8;
  return Math.ceil(diskSize / ((header.clusterSize / entrySize) * header.clusterSize));
}

async function readL1(
  image: ByteSource,
  header: Qcow2Header,
  snapshot: Qcow2Snapshot,
): Promise<DataView> {
  const { l1Offset, l1Size, vmStateSize } = snapshot;
  if (l1Size * 8 > QCOW2_LIMITS.l1Bytes) {
    throw new LimitError('E_LIMIT', 'the L1 table of the snapshot is longer than QEMU allows', {
      offset: snapshot.offset + 8,
      path: PATH,
      expected: `at most ${QCOW2_LIMITS.l1Bytes / 8} entries`,
      actual: String(l1Size),
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
  const first = vmStateL1Index(header, snapshot);
  const coverage = (header.clusterSize / (header.extendedL2 ? 16 : 8)) * header.clusterSize;
  const count = Math.ceil(vmStateSize / coverage);
  if (first > MAX_INT32 || first + count > l1Size) {
    throw new FormatError('E_CONTAINER', 'the VM state reaches beyond the L1 table', {
      offset: snapshot.offset + 8,
      path: PATH,
      expected: `at least ${first + count} entries`,
      actual: String(l1Size),
    });
  }
  const bytes = await readExactly(image, l1Offset + first * 8, count * 8, 'the L1 table', PATH);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
