import type { SectionCheck, VmstateDump } from 'spapr-htab';
import { BufferSource, type CheckReport, checkStream, parseVmstateDump } from 'spapr-htab';
import { type EncodedState, vmdesc } from '../devices/writer.js';
import { configuration, full, header, start, u32 } from '../helpers/stream.js';

/** A field as `-dump-vmstate` writes it. */
export interface DumpField {
  readonly field: string;
  readonly version_id: number;
  readonly field_exists: boolean;
  readonly num?: number;
  readonly size: number;
  readonly Description?: DumpState;
}

export interface DumpState {
  readonly name: string;
  readonly version_id: number;
  readonly minimum_version_id: number;
  readonly Fields?: readonly DumpField[];
  readonly Subsections?: readonly DumpState[];
}

export const field = (name: string, size: number, more: Partial<DumpField> = {}): DumpField => ({
  field: name,
  version_id: 0,
  field_exists: false,
  size,
  ...more,
});

export const described = (
  name: string,
  fields: readonly DumpField[],
  more: Partial<DumpState> = {},
): DumpState => ({
  name,
  version_id: 1,
  minimum_version_id: 1,
  ...(fields.length > 0 && { Fields: fields }),
  ...more,
});

/** An array of a fixed length somewhere shows that a dump tells such lengths. */
const COUNTED = described('counted', [field('array', 1, { num: 2 })]);

/** The text of a dump. Class names are made up: nothing goes by them. */
export function dumpText(
  states: readonly DumpState[],
  { machine = 'pseries-7.2', counted = true } = {},
): Buffer {
  const classes = [...states, ...(counted ? [COUNTED] : [])].map((state, i) => [
    `class-${i}`,
    {
      Name: `class-${i}`,
      version_id: state.version_id,
      minimum_version_id: state.minimum_version_id,
      Description: state,
    },
  ]);
  const all = { vmschkmachine: { Name: machine }, ...Object.fromEntries(classes) };
  return Buffer.from(JSON.stringify(all, null, 2));
}

export const dump = (...args: Parameters<typeof dumpText>): VmstateDump =>
  parseVmstateDump(dumpText(...args));

export interface Device {
  /** Path of the device, with a slash at its end. */
  readonly path?: string;
  readonly state: EncodedState;
  /** In the section's header; that of the state otherwise. */
  readonly version?: number;
}

/** A stream of a machine with these devices. */
export function stream(
  devices: readonly Device[],
  {
    machine = 'pseries-7.2' as string | null,
    capabilities = [] as string[],
    description = true,
    footers = true,
    iterables = [] as { name: string; version: number; payload: Buffer }[],
  } = {},
): Buffer {
  const name = ({ path = '', state }: Device): string => path + state.vmsd;
  const json = vmdesc(devices.map((device) => ({ name: name(device), json: device.state.json })));
  return Buffer.concat([
    header(),
    machine === null ? Buffer.alloc(0) : configuration(machine, capabilities),
    ...iterables.map((it, i) => start(100 + i, it.name, it.version, it.payload, { footers })),
    ...devices.map((device, i) =>
      full(i, name(device), device.version ?? device.state.version, device.state.bytes, {
        footers,
      }),
    ),
    Buffer.of(0),
    ...(description ? [Buffer.of(6), u32(json.length), Buffer.from(json)] : []),
  ]);
}

export function check(bytes: Uint8Array, target: VmstateDump): Promise<CheckReport> {
  return checkStream(new BufferSource(bytes), target);
}

/** What the target makes of one device. */
export async function checkOne(
  device: Device | EncodedState,
  target: DumpState | readonly DumpState[],
  options: { counted?: boolean } = {},
): Promise<SectionCheck> {
  const one = 'state' in device ? device : { state: device };
  const states = Array.isArray(target) ? target : [target as DumpState];
  const report = await check(stream([one]), dump(states, options));
  const [section] = report.sections;
  if (section === undefined) throw new Error('the stream has no section');
  return section;
}

/** Verdict and, for each reason, code and path. */
export function brief({ verdict, reasons }: Pick<SectionCheck, 'verdict' | 'reasons'>): string[] {
  return [verdict, ...reasons.map(({ code, path }) => `${code}: ${path}`)];
}
