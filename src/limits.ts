import { LimitError, UsageError } from './errors.js';

/**
 * Bounds on what an input may make of the process that reads it. Each has a default that real
 * snapshots stay far below (docs/limits.md says what of), and can be raised or lowered by name.
 * Bytes unless the name says otherwise; `Infinity` lifts a bound.
 */
export const DEFAULT_LIMITS = Object.freeze({
  /** Containers in one another: a gzip of a libvirt image of an xz is three. */
  containers: 4,
  /** XML, cookie and padding of a libvirt image. libvirt writes a few ten KiB. */
  libvirtBytes: 64 * 1024 * 1024,
  /** A temporary copy of what can only be read forward; 0 allows none. */
  spoolBytes: 64 * 1024 ** 3,
  /** What one decompressor may give. */
  decompressedBytes: 16 * 1024 ** 4,
  /** Bytes that a decompressor may give for each one that it gets, when it has given 1 GiB. */
  decompressionRatio: 100_000,
  /** Internal snapshots of a qcow2 image (QCOW_MAX_SNAPSHOTS of block/qcow2.h, QEMU 10.2). */
  qcow2Snapshots: 65536,
  /** The table that describes them (QCOW_MAX_SNAPSHOTS_SIZE). */
  qcow2TableBytes: 64 * 1024 * 1024,
  /** Extra data of one of them (QCOW_MAX_SNAPSHOT_EXTRA_DATA). */
  qcow2ExtraBytes: 1024,
  /** A snapshot's L1 table (QCOW_MAX_L1_SIZE). */
  qcow2L1Bytes: 32 * 1024 * 1024,

  /** The machine type's name. */
  machineBytes: 1024,
  /** Capabilities that the configuration of a stream names. */
  capabilities: 256,
  /** Sections of a stream. */
  sections: 65536,
  /** Parts of all sections of a stream, where they are listed. */
  parts: 4_000_000,
  /** Commands in a stream, where they are listed. */
  commands: 1_000_000,
  /** Warnings about one stream. */
  warnings: 65536,
  /** RAM blocks of a guest. */
  ramBlocks: 65536,
  /** How far the footer of a section is looked for whose length nothing tells. */
  footerSearchBytes: 1024 ** 3,
  /** The description of device state at the end of a stream. Real ones are below 2 MiB. */
  vmdescBytes: 64 * 1024 * 1024,
  /** Objects and arrays in one another, in a description. */
  vmdescDepth: 64,
  /** Values of a description. */
  vmdescValues: 1_000_000,
  /** State of one device that is decoded; a larger one is reported without its tree. */
  deviceBytes: 64 * 1024 * 1024,
  /** Nodes in the tree of one device; what is beyond stays undecoded. */
  deviceNodes: 250_000,
  /** A target's `-dump-vmstate`. That of QEMU 11.1 has 1.6 million. */
  vmstateBytes: 64 * 1024 * 1024,
  /** Objects and arrays in one another, in that. A struct in a struct is three levels. */
  vmstateDepth: 96,
  /** Values of that. */
  vmstateValues: 2_000_000,

  /** log2 of the size of an HPT. No larger one exists than 46. */
  order: 46,
  /** Memory that one table takes: a HashPageTable, a SoftwareHtab, or the count of one. */
  tableBytes: 8 * 1024 ** 3,
} as const satisfies Readonly<Record<string, number>>);

export type LimitName = keyof typeof DEFAULT_LIMITS;

/** A value for each limit. */
export type Limits = Readonly<Record<LimitName, number>>;

/** Limits that differ from {@link DEFAULT_LIMITS}, by name. */
export type LimitOptions = Readonly<Partial<Record<LimitName, number | undefined>>>;

/** What `limitsOf` has made: it is handed on, and comes by again. */
const made = new WeakSet<LimitOptions>([DEFAULT_LIMITS]);

/**
 * All limits: those that were given, and the defaults of the others.
 * @throws UsageError `E_USAGE` for a name that is none, or a value that is no whole number from 0
 */
export function limitsOf(given: LimitOptions | undefined): Limits {
  if (given === undefined) return DEFAULT_LIMITS;
  if (made.has(given)) return given as Limits;
  const limits: Record<LimitName, number> = { ...DEFAULT_LIMITS };
  for (const [name, value] of Object.entries(given)) {
    if (!isLimit(name)) {
      throw new UsageError('E_USAGE', 'there is no such limit', {
        expected: Object.keys(DEFAULT_LIMITS).join(', '),
        actual: name,
      });
    }
    if (value === undefined) continue;
    if (!(value >= 0 && (Number.isSafeInteger(value) || value === Number.POSITIVE_INFINITY))) {
      const message = `the limit ${name} is no whole number from 0, nor Infinity`;
      throw new UsageError('E_USAGE', message, { actual: String(value) });
    }
    limits[name] = value;
  }
  made.add(Object.freeze(limits));
  return limits;
}

function isLimit(name: string): name is LimitName {
  return Object.hasOwn(DEFAULT_LIMITS, name);
}

/** Where a limit was exceeded. */
export interface ExceededDetails {
  readonly offset?: number | undefined;
  readonly path?: string | undefined;
  /** How much there is; unless it is given, it is only known to be more. */
  readonly actual?: number | bigint | undefined;
}

/** The error for input that exceeds a limit: it says which, and how to raise it. */
export function exceeded(
  limits: Limits,
  limit: LimitName,
  message: string,
  { offset, path, actual }: ExceededDetails = {},
): LimitError {
  const value = limits[limit];
  const remedy = `if the input is trusted, raise the limit ${limit} (limits: { ${limit}: N }, --limit ${limit}=N)`;
  return new LimitError('E_LIMIT', `${message}; ${remedy}`, {
    offset,
    path,
    expected: `at most ${value}${limit.endsWith('Bytes') ? ' bytes' : ''}`,
    actual: actual === undefined ? 'more' : String(actual),
    limit,
    value,
  });
}
