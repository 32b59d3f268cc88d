import type { ByteSource } from '../../src/bytes/source.js';
import { readQcow2Header } from '../../src/container/qcow2-header.js';
import { readQcow2Snapshots } from '../../src/container/qcow2-snapshots.js';
import { Qcow2VmStateSource } from '../../src/container/qcow2-vmstate.js';
import type { ClusterKind } from './make-qcow2.js';

/** The VM state of the n-th snapshot. */
export async function openState(image: ByteSource, index = 0): Promise<Qcow2VmStateSource> {
  const header = await readQcow2Header(image);
  const snapshots = await readQcow2Snapshots(image, header);
  const snapshot = snapshots[index];
  if (snapshot === undefined) throw new Error('no such snapshot');
  return Qcow2VmStateSource.open(image, header, snapshot);
}

const MIX: readonly ClusterKind[] = ['data', 'data', 'zero', 'compressed', 'hole', 'data'];
/** Every kind of cluster that images of version 3 have. */
export const mix = (cluster: number): ClusterKind => MIX[cluster % MIX.length] ?? 'data';
