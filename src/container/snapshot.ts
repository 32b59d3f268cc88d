import { UnsupportedError, UsageError } from '../errors.js';
import { printable } from '../printable.js';
import type { Qcow2Snapshot } from './qcow2-snapshots.js';

/** How many snapshots a message lists. */
const LISTED = 20;

/**
 * Finds the snapshot that is meant: the first with this ID, else the first with this name
 * (block/qcow2-snapshot.c find_snapshot_by_id_or_name, QEMU 10.2). When none is named, the only one
 * that has a VM state.
 *
 * @throws UsageError `E_SNAPSHOT` when there is none of this name, or several to choose from;
 *   UnsupportedError `E_UNSUPPORTED` when the image has no VM state at all
 */
export function chooseSnapshot(
  snapshots: readonly Qcow2Snapshot[],
  wanted: string | undefined,
  file: string,
): Qcow2Snapshot {
  if (snapshots.length === 0) {
    throw new UnsupportedError(
      'E_UNSUPPORTED',
      `${file} is a qcow2 image without internal snapshots: it holds a disk and no guest state (\`savevm\` makes a snapshot)`,
    );
  }
  if (wanted !== undefined) {
    const found =
      snapshots.find(({ id }) => id === wanted) ?? snapshots.find(({ name }) => name === wanted);
    if (found !== undefined) return found;
    throw new UsageError(
      'E_SNAPSHOT',
      `${file} has no snapshot with the ID or name '${printable(wanted)}'; it has ${list(snapshots)}`,
    );
  }
  const [first, ...others] = snapshots.filter(({ vmStateSize }) => vmStateSize > 0);
  if (first === undefined) {
    throw new UnsupportedError(
      'E_UNSUPPORTED',
      `${file} has only snapshots of the disk alone, without guest state: ${list(snapshots)}`,
    );
  }
  if (others.length > 0) {
    throw new UsageError(
      'E_SNAPSHOT',
      `${file} is a qcow2 image with ${others.length + 1} internal snapshots that hold a guest; name one: ${list([first, ...others])}`,
    );
  }
  return first;
}

function list(snapshots: readonly Qcow2Snapshot[]): string {
  const words = snapshots.slice(0, LISTED).map(({ id, name, vmStateSize }) => {
    const kind = vmStateSize === 0 ? ', disk only' : '';
    return `${printable(id)} (${printable(name)}${kind})`;
  });
  if (snapshots.length > LISTED) words.push(`and ${snapshots.length - LISTED} more`);
  return words.join(', ');
}
