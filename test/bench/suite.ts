import type { Case } from './case.js';
import { fixtureCases, LARGE_STREAM } from './cases/fixtures.js';
import { FRAMING_SHAPES, framingCases } from './cases/framing.js';
import { libvirtCases } from './cases/libvirt.js';
import { snapshotCases } from './cases/snapshot.js';
import { startCases } from './cases/start.js';
import { tableCases } from './cases/table.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

export interface SuiteOptions {
  /** GiB of RAM of the raw and mapped-ram snapshots. Default: 4 and 8, and 1 and 4. */
  readonly ram?: readonly number[] | undefined;
}

/** Everything, at the sizes that targets are for: each twice, to show the growth. */
export function suite({ ram }: SuiteOptions = {}): Case[] {
  const raw = ram ?? [4, 8];
  const mapped = ram ?? [1, 4];
  return [
    ...startCases(),
    ...fixtureCases([LARGE_STREAM]),
    ...framingCases(FRAMING_SHAPES),
    ...snapshotCases(
      raw.map((gib) => gib * GIB),
      mapped.map((gib) => gib * GIB),
    ),
    ...libvirtCases([2 * GIB, 4 * GIB]),
    ...tableCases(30, [5_000_000, 10_000_000]),
  ];
}

/** The same on inputs of a few MiB: whether results are right, and nothing about speed. */
export function shortSuite(): Case[] {
  return [
    ...startCases(),
    ...fixtureCases(),
    ...framingCases([
      { label: '1 MiB', bytes: MIB, order: 22 },
      { label: '4 MiB', bytes: 4 * MIB, order: 34 },
    ]),
    ...snapshotCases([16 * MIB, 128 * MIB], [16 * MIB, 32 * MIB]),
    ...libvirtCases([16 * MIB]),
    ...tableCases(24, [50_000, 100_000]),
  ];
}
