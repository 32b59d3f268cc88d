import * as v from 'valibot';
import { atOnce, type Steps } from '../bytes/pace.js';
import { FormatError } from '../errors.js';
import { exceeded, type LimitOptions, limitsOf } from '../limits.js';
import { type OrderedJson, OrderedObject, parseOrderedJson } from '../qevm/json.js';
import { OrderedJsonError } from '../qevm/json-scanner.js';

/**
 * What `qemu-system-ppc64 -M NAME -dump-vmstate FILE` says: how that program describes the state of
 * each class of devices, whichever machine it is started with (migration/savevm.c
 * dump_vmstate_json_to_file; compared with QEMU 7.2, 10.0 and 11.1). State that is registered without a device class is
 * not in it.
 */
export interface VmstateDump {
  /** Machine type that the program was started with; the rest does not depend on it. */
  readonly machine: string;
  /** Whether it tells how many elements arrays have; false for older programs. */
  readonly counted: boolean;
  readonly classes: readonly DeviceClass[];
}

/** A device class that has a description. */
export interface DeviceClass {
  /** QOM type, such as `spapr-pci-host-bridge`. */
  readonly name: string;
  readonly state: TargetState;
}

/** A VMStateDescription as it was compiled. */
export interface TargetState {
  /** Last part of a section's name, such as `spapr_pci`; the whole name of a subsection. */
  readonly name: string;
  /** Version that is written, and the newest that is read. */
  readonly version: number;
  /** Oldest version that is read. */
  readonly minimumVersion: number;
  readonly fields: readonly TargetField[];
  readonly subsections: readonly TargetState[];
}

/** A VMStateField as it was compiled; those that only check something (VMSTATE_VALIDATE) are not there. */
export interface TargetField {
  readonly name: string;
  /** First version that has it, unless `optional`. */
  readonly version: number;
  /** Whether a function of the program decides at run time if it is there (`field_exists`). */
  readonly optional: boolean;
  /**
   * Elements of an array of fixed length (`num`; QEMU 10.0 writes it, 7.2 does not); undefined for a single value,
   * an array of variable length, and any array in older dumps.
   */
  readonly count: number | undefined;
  /** `sizeof` one element in the program's memory, in bytes; 0 where the length is variable. */
  readonly size: number;
  /** What it holds, for structs and lists of them. */
  readonly state: TargetState | undefined;
}

const MACHINE_KEY = 'vmschkmachine';

const int32 = v.pipe(v.number(), v.integer(), v.minValue(-(2 ** 31)), v.maxValue(2 ** 31 - 1));
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const MachineSchema = v.object({ Name: v.string() });
const StateSchema = v.object({ name: v.string(), version_id: int32, minimum_version_id: int32 });
const FieldSchema = v.object({
  field: v.string(),
  version_id: int32,
  field_exists: v.boolean(),
  num: v.optional(v.pipe(int32, v.minValue(0))),
  size,
});

/**
 * Reads the JSON of `-dump-vmstate`, without a pause: a second and more for a real one. Keys are data, whatever
 * they are called, and unknown ones are ignored.
 * @throws FormatError `E_VMSTATE` for text that is not such a dump; LimitError
 */
export function parseVmstateDump(json: Uint8Array, options?: LimitOptions): VmstateDump {
  return atOnce(dumpSteps(json, options));
}

/** The same in steps. */
export function* dumpSteps(
  json: Uint8Array,
  options: LimitOptions | undefined,
): Steps<VmstateDump> {
  const limits = limitsOf(options);
  if (json.length > limits.vmstateBytes) {
    throw exceeded(limits, 'vmstateBytes', 'the description of the target is too long');
  }
  let root: OrderedJson;
  try {
    const { vmstateDepth: depth, vmstateValues: values } = limits;
    root = yield* parseOrderedJson(json, { depth, values });
  } catch (error) {
    if (!(error instanceof OrderedJsonError)) throw error;
    if (error.exceeds !== undefined) {
      const limit = error.exceeds === 'depth' ? 'vmstateDepth' : 'vmstateValues';
      throw exceeded(limits, limit, error.message, { path: 'vmstate' });
    }
    throw bad(`it is not usable JSON (${error.message})`, { cause: error });
  }
  const top = object(root, []);
  const machine = check(MachineSchema, top.get(MACHINE_KEY), [MACHINE_KEY]).Name;
  const classes: DeviceClass[] = [];
  for (const [i, name] of top.names.entries()) {
    if (name === MACHINE_KEY) continue;
    const device = object(top.values[i], [name]);
    const path = [name, 'Description'];
    classes.push({ name, state: yield* parseState(device.get('Description'), path) });
  }
  const counted = classes.some(({ state }) => hasCount(state));
  return { machine, counted, classes };
}

function hasCount({ fields, subsections }: TargetState): boolean {
  return (
    fields.some(
      ({ count, state }) => count !== undefined || (state !== undefined && hasCount(state)),
    ) || subsections.some(hasCount)
  );
}

function* parseState(value: OrderedJson | undefined, path: string[]): Steps<TargetState> {
  const { name, version_id, minimum_version_id } = check(StateSchema, value, path);
  const state = object(value, path);
  return {
    name,
    version: version_id,
    minimumVersion: minimum_version_id,
    fields: yield* list(state, 'Fields', path, parseField),
    subsections: yield* list(state, 'Subsections', path, parseState),
  };
}

function* parseField(value: OrderedJson, path: string[]): Steps<TargetField> {
  const { field, version_id, field_exists, num, size } = check(FieldSchema, value, path);
  const inner = object(value, path).get('Description');
  return {
    name: field,
    version: version_id,
    optional: field_exists,
    count: num,
    size,
    state: inner === undefined ? undefined : yield* parseState(inner, [...path, 'Description']),
  };
}

/** A list that is left out when there is none. */
function* list<T>(
  parent: OrderedObject,
  key: string,
  path: string[],
  parse: (value: OrderedJson, path: string[]) => Steps<T>,
): Steps<T[]> {
  const value = parent.get(key);
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw bad('no list', { path: [...path, key].join(' / ') });
  const items: T[] = [];
  for (const [i, item] of value.entries()) {
    items.push(yield* parse(item, [...path, `${key}[${i}]`]));
    // Checking one by its schema takes some microseconds.
    yield;
  }
  return items;
}

function object(value: OrderedJson | undefined, path: string[]): OrderedObject {
  if (value instanceof OrderedObject) return value;
  throw bad('an object is missing', { path: path.join(' / ') });
}

/** The members that a schema names, which are no objects or lists. */
function check<S extends v.ObjectSchema<v.ObjectEntries, undefined>>(
  schema: S,
  value: OrderedJson | undefined,
  path: string[],
): v.InferOutput<S> {
  const from = object(value, path);
  const members = Object.keys(schema.entries).map((key) => [key, from.get(key)]);
  const result = v.safeParse(schema, Object.fromEntries(members));
  if (result.success) return result.output;
  const [issue] = result.issues;
  const where = [...path, v.getDotPath(issue) ?? ''].join(' / ');
  throw bad(issue.message, { path: where });
}

function bad(
  message: string,
  details: { path?: string; expected?: string; actual?: string; cause?: unknown } = {},
): FormatError {
  const path = details.path === undefined ? 'vmstate' : `vmstate / ${details.path}`;
  const what = `this is no dump of QEMU's -dump-vmstate: ${message}`;
  return new FormatError('E_VMSTATE', what, { ...details, path });
}
