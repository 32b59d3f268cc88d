import { deflateRawSync } from 'node:zlib';

/** How a cluster of a VM state is stored. `zero` and `hole` make its bytes zero. */
export type ClusterKind = 'data' | 'zero' | 'zero-allocated' | 'hole' | 'compressed' | 'mixed';

export interface MadeSnapshot {
  readonly id: string;
  readonly name: string;
  readonly state: Buffer;
  /** How each cluster is stored. Default: all `data`. */
  readonly plan?: (cluster: number) => ClusterKind;
  /** Bytes of extra data: 0, 8, 16, 24 or more. Default 24. */
  readonly extraLength?: number;
  readonly diskSize?: number;
  readonly icount?: bigint;
  readonly vmClock?: bigint;
  readonly date?: readonly [seconds: number, nanoseconds: number];
}

export interface Qcow2Recipe {
  readonly version?: 2 | 3;
  readonly clusterBits?: number;
  readonly extendedL2?: boolean;
  readonly compression?: 'deflate' | 'zstd';
  readonly diskSize?: number;
  readonly encryption?: number;
  /** More incompatible feature bits. */
  readonly features?: bigint;
  /** Names of incompatible features: [bit, name]. */
  readonly featureNames?: readonly (readonly [number, string])[];
  readonly backingFile?: string;
  readonly snapshots?: readonly MadeSnapshot[];
  /** Leave a cluster free after every n-th, so that runs in the file end. Default 3. */
  readonly gapEvery?: number;
}

export interface MadeQcow2 {
  readonly image: Buffer;
  /** What each VM state reads as: the given bytes, with zeros where the plan says so. */
  readonly states: readonly Buffer[];
  /** Where things stand in the image. */
  readonly snapshotsOffset: number;
  readonly snapshotsEnd: number;
}

/**
 * Builds a qcow2 image with VM states after docs/interop/qcow2.rst, by hand: no tool can write a VM
 * state into an image without a guest. Refcounts are left zero, so QEMU opens it only for reading.
 */
export function makeQcow2(recipe: Qcow2Recipe = {}): MadeQcow2 {
  return new ImageMaker(recipe).make();
}

class ImageMaker {
  readonly #version: 2 | 3;
  readonly #clusterBits: number;
  readonly #clusterSize: number;
  readonly #entrySize: number;
  readonly #coverage: number;
  readonly #diskSize: number;
  #bytes: Buffer = Buffer.alloc(0);
  #allocated = 0;

  constructor(readonly recipe: Qcow2Recipe) {
    this.#version = recipe.version ?? 3;
    this.#clusterBits = recipe.clusterBits ?? 16;
    this.#clusterSize = 2 ** this.#clusterBits;
    this.#entrySize = recipe.extendedL2 ? 16 : 8;
    this.#coverage = this.#clusterSize * (this.#clusterSize / this.#entrySize);
    this.#diskSize = recipe.diskSize ?? 1024 * 1024;
  }

  make(): MadeQcow2 {
    const snapshots = this.recipe.snapshots ?? [];
    this.#allocate(1); // header
    const refcountTable = this.#allocate(1);
    const activeEntries = Math.ceil(this.#diskSize / this.#coverage);
    const activeL1 = this.#allocate(
      Math.max(1, Math.ceil((activeEntries * 8) / this.#clusterSize)),
    );
    const states: Buffer[] = [];
    const entries = snapshots.map((snapshot) => {
      const { l1Offset, l1Size, state } = this.#writeState(snapshot);
      states.push(state);
      return this.#tableEntry(snapshot, l1Offset, l1Size);
    });
    const table = Buffer.concat(entries);
    const snapshotsOffset = this.#allocate(
      Math.max(1, Math.ceil(table.length / this.#clusterSize)),
    );
    this.#put(table, snapshotsOffset);
    this.#put(this.#header(refcountTable, activeL1, activeEntries, snapshotsOffset), 0);
    const image = Buffer.from(this.#bytes.subarray(0, this.#allocated));
    return { image, states, snapshotsOffset, snapshotsEnd: snapshotsOffset + table.length };
  }

  #allocate(clusters: number): number {
    const at = this.#allocated;
    this.#allocated += clusters * this.#clusterSize;
    if (this.#allocated > this.#bytes.length) {
      const grown = Buffer.alloc(this.#allocated * 2);
      this.#bytes.copy(grown);
      this.#bytes = grown;
    }
    return at;
  }

  #put(bytes: Uint8Array, at: number): void {
    this.#bytes.set(bytes, at);
  }

  #header(refcounts: number, activeL1: number, activeEntries: number, snapshots: number): Buffer {
    const { recipe } = this;
    const zstd = recipe.compression === 'zstd';
    const header = Buffer.alloc(this.#version === 2 ? 72 : 112);
    header.write('QFI\xfb', 0, 'latin1');
    header.writeUInt32BE(this.#version, 4);
    header.writeUInt32BE(this.#clusterBits, 20);
    header.writeBigUInt64BE(BigInt(this.#diskSize), 24);
    header.writeUInt32BE(recipe.encryption ?? 0, 32);
    header.writeUInt32BE(activeEntries, 36);
    header.writeBigUInt64BE(BigInt(activeL1), 40);
    header.writeBigUInt64BE(BigInt(refcounts), 48);
    header.writeUInt32BE(1, 56);
    header.writeUInt32BE(recipe.snapshots?.length ?? 0, 60);
    header.writeBigUInt64BE(BigInt(snapshots), 64);
    if (this.#version === 3) {
      const features =
        (recipe.features ?? 0n) | (zstd ? 8n : 0n) | (recipe.extendedL2 === true ? 16n : 0n);
      header.writeBigUInt64BE(features, 72);
      header.writeUInt32BE(4, 96);
      header.writeUInt32BE(112, 100);
      header.writeUInt8(zstd ? 1 : 0, 104);
    }
    const pieces: Buffer[] = [header, this.#featureNames(), Buffer.alloc(8)];
    if (recipe.backingFile !== undefined) {
      const at = pieces.reduce((sum, { length }) => sum + length, 0);
      header.writeBigUInt64BE(BigInt(at), 8);
      header.writeUInt32BE(Buffer.byteLength(recipe.backingFile), 16);
      pieces.push(Buffer.from(recipe.backingFile));
    }
    return Buffer.concat(pieces);
  }

  #featureNames(): Buffer {
    const names = this.recipe.featureNames ?? [];
    if (names.length === 0) return Buffer.alloc(0);
    const extension = Buffer.alloc(8 + names.length * 48);
    extension.writeUInt32BE(0x6803f857, 0);
    extension.writeUInt32BE(names.length * 48, 4);
    names.forEach(([bit, name], index) => {
      extension.writeUInt8(bit, 8 + index * 48 + 1);
      extension.write(name, 8 + index * 48 + 2);
    });
    return extension;
  }

  #tableEntry(snapshot: MadeSnapshot, l1Offset: number, l1Size: number): Buffer {
    const extraLength = snapshot.extraLength ?? 24;
    const id = Buffer.from(snapshot.id);
    const name = Buffer.from(snapshot.name);
    const length = 40 + extraLength + id.length + name.length;
    const entry = Buffer.alloc(Math.ceil(length / 8) * 8);
    entry.writeBigUInt64BE(BigInt(l1Offset), 0);
    entry.writeUInt32BE(l1Size, 8);
    entry.writeUInt16BE(id.length, 12);
    entry.writeUInt16BE(name.length, 14);
    entry.writeUInt32BE(snapshot.date?.[0] ?? 1_700_000_000, 16);
    entry.writeUInt32BE(snapshot.date?.[1] ?? 123_456_789, 20);
    entry.writeBigUInt64BE(snapshot.vmClock ?? 0n, 24);
    // Where the 64-bit size is there, this one must not count.
    entry.writeUInt32BE(extraLength >= 8 ? 0xdeadbeef : snapshot.state.length, 32);
    entry.writeUInt32BE(extraLength, 36);
    const extra = Buffer.alloc(Math.max(extraLength, 24), 0xee);
    extra.writeBigUInt64BE(BigInt(snapshot.state.length), 0);
    extra.writeBigUInt64BE(BigInt(snapshot.diskSize ?? this.#diskSize), 8);
    extra.writeBigUInt64BE(snapshot.icount ?? 0xffff_ffff_ffff_ffffn, 16);
    extra.copy(entry, 40, 0, extraLength);
    id.copy(entry, 40 + extraLength);
    name.copy(entry, 40 + extraLength + id.length);
    return entry;
  }

  #writeState(snapshot: MadeSnapshot): { l1Offset: number; l1Size: number; state: Buffer } {
    const first = Math.ceil((snapshot.diskSize ?? this.#diskSize) / this.#coverage);
    const tables = Math.ceil(snapshot.state.length / this.#coverage);
    const l1Size = first + tables;
    const l1Offset = this.#allocate(Math.max(1, Math.ceil((l1Size * 8) / this.#clusterSize)));
    const state = Buffer.from(snapshot.state);
    const perTable = this.#coverage / this.#clusterSize;
    const clusters = Math.ceil(state.length / this.#clusterSize);
    for (let table = 0; table < tables; table++) {
      const l2Offset = this.#allocate(1);
      this.#bytes.writeBigUInt64BE(BigInt(l2Offset) | (1n << 63n), l1Offset + (first + table) * 8);
      for (let index = 0; index < perTable && table * perTable + index < clusters; index++) {
        const cluster = table * perTable + index;
        const kind = snapshot.plan?.(cluster) ?? 'data';
        const [entry, bitmap] = this.#writeCluster(state, cluster, kind);
        const at = l2Offset + index * this.#entrySize;
        this.#bytes.writeBigUInt64BE(entry, at);
        if (this.#entrySize === 16) this.#bytes.writeBigUInt64BE(bitmap, at + 8);
        if ((cluster + 1) % (this.recipe.gapEvery ?? 3) === 0) this.#allocate(1);
      }
    }
    return { l1Offset, l1Size, state };
  }

  /** Stores a cluster and returns its L2 entry and bitmap; makes the model say the same. */
  #writeCluster(state: Buffer, cluster: number, kind: ClusterKind): [bigint, bigint] {
    const extended = this.#entrySize === 16;
    const model = state.subarray(cluster * this.#clusterSize, (cluster + 1) * this.#clusterSize);
    const bytes = Buffer.alloc(this.#clusterSize);
    model.copy(bytes);
    const copied = 1n << 63n;
    switch (kind) {
      case 'hole':
        model.fill(0);
        return [0n, 0n];
      case 'zero':
        model.fill(0);
        return extended ? [0n, 0xffff_ffff_0000_0000n] : [1n, 0n];
      case 'zero-allocated': {
        model.fill(0);
        const at = BigInt(this.#place(Buffer.alloc(this.#clusterSize, 0xa5)));
        return extended ? [at | copied, 0xffff_ffff_0000_0000n] : [at | copied | 1n, 0n];
      }
      case 'mixed':
        return this.#writeMixed(model, bytes, cluster);
      case 'compressed':
        return [this.#writeCompressed(bytes), 0n];
      case 'data':
        return [BigInt(this.#place(bytes)) | copied, 0xffff_ffffn];
    }
  }

  #place(bytes: Buffer): number {
    const at = this.#allocate(1);
    this.#put(bytes, at);
    return at;
  }

  /** Subclusters in turn: stored, zero, not allocated; shifted from cluster to cluster. */
  #writeMixed(model: Buffer, bytes: Buffer, cluster: number): [bigint, bigint] {
    const size = this.#clusterSize / 32;
    let bitmap = 0n;
    for (let sub = 0; sub < 32; sub++) {
      const turn = (Math.floor(sub / 3) + cluster) % 3;
      if (turn === 0) bitmap |= 1n << BigInt(sub);
      else model.subarray(sub * size, (sub + 1) * size).fill(0);
      if (turn === 1) bitmap |= 1n << BigInt(32 + sub);
    }
    return [BigInt(this.#place(bytes)) | (1n << 63n), bitmap];
  }

  /** Compressed clusters stand at odd places, with other bytes before and after. */
  #writeCompressed(bytes: Buffer): bigint {
    const packed =
      this.recipe.compression === 'zstd'
        ? rawZstd(bytes)
        : deflateRawSync(bytes, { windowBits: 12, memLevel: 9 });
    const lead = 77 % this.#clusterSize;
    const room = this.#allocate(Math.ceil((lead + packed.length + 600) / this.#clusterSize));
    this.#bytes.fill(0x5c, room, this.#allocated);
    this.#put(packed, room + lead);
    const offset = room + lead;
    const sectors = Math.ceil(((offset % 512) + packed.length) / 512);
    const shift = BigInt(62 - (this.#clusterBits - 8));
    return (1n << 62n) | (BigInt(sectors - 1) << shift) | BigInt(offset);
  }
}

/**
 * Two zstd frames and a skippable one between them, with blocks of type raw and RLE: no encoder is
 * needed for these (RFC 8878). Each frame has a checksum-less header with a 4-byte content size.
 */
export function rawZstd(bytes: Buffer): Buffer {
  const half = Math.floor(bytes.length / 2);
  const skippable = Buffer.from('5a2a4d1803000000aabbcc', 'hex');
  return Buffer.concat([frame(bytes.subarray(0, half)), skippable, frame(bytes.subarray(half))]);
}

function frame(bytes: Buffer): Buffer {
  // Magic, then: content size in 4 bytes, single segment, no checksum, no dictionary.
  const header = Buffer.from('28b52ffda000000000', 'hex');
  header.writeUInt32LE(bytes.length, 5);
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 65536) {
    const block = bytes.subarray(at, at + 65536);
    const last = at + 65536 >= bytes.length ? 1 : 0;
    const same = block.every((byte) => byte === block[0]);
    const head = Buffer.alloc(3);
    head.writeUIntLE((block.length << 3) | ((same ? 1 : 0) << 1) | last, 0, 3);
    blocks.push(head, same ? block.subarray(0, 1) : block);
  }
  return Buffer.concat([header, ...blocks]);
}
