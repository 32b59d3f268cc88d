import type { CompressionKind } from './decompress.js';
import type { LibvirtHeader } from './libvirt.js';
import { type Qcow2Header, qcow2Warnings } from './qcow2-header.js';
import type { Qcow2Snapshot } from './qcow2-snapshots.js';

/** A container, described in plain data that JSON can hold. Offsets are positions in its parent. */
export type ContainerLayer = LibvirtLayer | Qcow2Layer | CompressionLayer;

/** A file that is compressed as a whole. */
export interface CompressionLayer {
  readonly kind: CompressionKind;
  readonly offset: number;
}

/** The header of a libvirt save image; XML and cookie only where they were asked for. */
export interface LibvirtLayer extends Omit<LibvirtHeader, 'xml' | 'cookie' | 'bytes'> {
  readonly kind: 'libvirt';
  readonly offset: number;
  readonly xml?: string;
  readonly cookie?: string | null;
}

export interface Qcow2Layer {
  readonly kind: 'qcow2';
  readonly offset: number;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  readonly compression: 'deflate' | 'zstd';
  readonly encryption: 'none' | 'aes' | 'luks';
  readonly externalData: boolean;
  readonly diskSize: number;
  /** Named only: it is never opened. */
  readonly backingFile: string | null;
  readonly snapshots: readonly SnapshotSummary[];
  /** The snapshot that is read; null when none could be chosen. */
  readonly chosen: { readonly id: string; readonly name: string } | null;
  readonly warnings: readonly string[];
}

/** A line of `qemu-img snapshot -l`. */
export interface SnapshotSummary {
  readonly id: string;
  readonly name: string;
  /** When it was taken, in ISO 8601 and UTC, to the millisecond. */
  readonly date: string;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  /** How long the guest had run, in nanoseconds: 64 bits, in decimal. */
  readonly vmClock: string;
  /** Bytes; 0 for a snapshot of the disk alone. */
  readonly vmStateSize: number;
  /** 64 bits, in decimal; null when the guest did not run with record/replay. */
  readonly icount: string | null;
  readonly diskSize: number;
}

export function libvirtLayer(offset: number, header: LibvirtHeader, full: boolean): LibvirtLayer {
  const { xml, cookie, bytes: _, ...facts } = header;
  return { kind: 'libvirt', offset, ...facts, ...(full ? { xml, cookie } : {}) };
}

export function qcow2Layer(
  offset: number,
  header: Qcow2Header,
  snapshots: readonly Qcow2Snapshot[],
  chosen: Qcow2Snapshot | null,
): Qcow2Layer {
  return {
    kind: 'qcow2',
    offset,
    version: header.version,
    clusterSize: header.clusterSize,
    extendedL2: header.extendedL2,
    compression: header.compression,
    encryption: header.encryption,
    externalData: header.externalData,
    diskSize: header.diskSize,
    backingFile: header.backingFile,
    snapshots: snapshots.map(summary),
    chosen: chosen === null ? null : { id: chosen.id, name: chosen.name },
    warnings: qcow2Warnings(header),
  };
}

function summary(snapshot: Qcow2Snapshot): SnapshotSummary {
  const { id, name, dateSeconds, dateNanoseconds, vmClock, vmStateSize, icount, diskSize } =
    snapshot;
  return {
    id,
    name,
    date: isoDate(dateSeconds, dateNanoseconds),
    dateSeconds,
    dateNanoseconds,
    vmClock: String(vmClock),
    vmStateSize,
    icount: icount === null ? null : String(icount),
    diskSize,
  };
}

/** 32 bits of seconds always make a valid date; the nanoseconds may be anything in a bad file. */
function isoDate(seconds: number, nanoseconds: number): string {
  return new Date(seconds * 1000 + Math.floor(nanoseconds / 1e6)).toISOString();
}
