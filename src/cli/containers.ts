import type { ContainerLayer } from '../index.js';
import { count, size } from './text.js';

/** What `info` says of a container. */
export function containerRows(layer: ContainerLayer): [string, string][] {
  switch (layer.kind) {
    case 'libvirt': {
      const facts = [
        `libvirt save image, version ${layer.version}, ${layer.byteOrder}-endian`,
        `format ${layer.format}`,
        layer.complete ? 'complete' : 'incomplete',
        layer.wasRunning ? 'guest was running' : 'guest was paused',
        `stream at byte ${layer.streamOffset}`,
      ];
      return [['Container', facts.join(', ')]];
    }
    case 'qcow2': {
      const facts = [
        `qcow2 image, version ${layer.version}, clusters of ${size(layer.clusterSize)}`,
        count(layer.snapshots.length, 'internal snapshot'),
      ];
      if (layer.extendedL2) facts.push('extended L2');
      if (layer.encryption !== 'none') facts.push(`encrypted (${layer.encryption})`);
      if (layer.externalData) facts.push('external data file');
      if (layer.backingFile !== null) facts.push(`backing file ${layer.backingFile} (not opened)`);
      const rows: [string, string][] = [['Container', facts.join(', ')]];
      if (layer.chosen !== null) {
        rows.push(['Snapshot', `${layer.chosen.id} (${layer.chosen.name})`]);
      }
      return rows;
    }
    default:
      return [['Container', `compressed with ${layer.kind}`]];
  }
}

/** A row for each internal snapshot, as `qemu-img snapshot -l` has them. */
export function snapshotRows(layers: readonly ContainerLayer[]): string[][] {
  return layers.flatMap((layer) =>
    layer.kind !== 'qcow2'
      ? []
      : layer.snapshots.map((s) => [
          s.id,
          s.name,
          s.date,
          clock(BigInt(s.vmClock)),
          s.vmStateSize === 0 ? 'none' : size(s.vmStateSize),
          size(s.diskSize),
        ]),
  );
}

/** Nanoseconds as `HHHH:MM:SS.mmm`. */
function clock(nanoseconds: bigint): string {
  const ms = nanoseconds / 1_000_000n;
  const pad = (value: bigint, width: number) => String(value).padStart(width, '0');
  const hours = pad(ms / 3_600_000n, 4);
  return `${hours}:${pad((ms / 60_000n) % 60n, 2)}:${pad((ms / 1000n) % 60n, 2)}.${pad(ms % 1000n, 3)}`;
}
