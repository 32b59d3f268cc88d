import { atOnce, type Steps } from '../bytes/pace.js';
import { type OrderedJson, OrderedObject } from './json.js';

/**
 * What the vmdescription says about a device, as a model (migration/vmstate.c
 * vmstate_save_state_v, vmsd_desc_field_start, vmsd_desc_field_end; QEMU 2.3 to 11.1). It is
 * written while the device is saved, is not read by QEMU, and is wrong at places; what can be
 * put right from itself is put right here.
 */
export interface StateDescription {
  /** Undefined for devices of the old style, which describe one buffer. */
  readonly vmsdName: string | undefined;
  readonly version: number | undefined;
  readonly fields: readonly FieldDescription[];
  readonly subsections: readonly StateDescription[];
}

/** One field object: a value, an element of an array, or `count` equal elements. */
export interface FieldDescription {
  readonly name: string;
  /** Name of the VMStateInfo, `struct` or `vstruct`. */
  readonly type: string;
  /** Bytes of one element, measured on the first. */
  readonly size: number;
  /** How many elements it stands for: `array_len`, corrected where that counts others too. */
  readonly count: number;
  /** Whether `array_len` was present. */
  readonly compressed: boolean;
  /** Position in its array; QEMU 9.2.4 and later leave it out for the last element. */
  readonly index: number | undefined;
  /**
   * What it holds: one for a struct; one for each element of a list, whose keys repeat inside the
   * field object; key and value by turns for a tree.
   */
  readonly states: readonly StateDescription[];
}

/** Fields and states between two pauses: some milliseconds. */
const STEP = 1024;

type Draft = { -readonly [K in keyof FieldDescription]: FieldDescription[K] };

/** Makes the model of a description out of its JSON. */
export class StateParser {
  #done = 0;

  /** The state whose keys stand in this object. Undefined where a length in it cannot be told. */
  *state(object: OrderedObject): Steps<StateDescription | undefined> {
    if (++this.#done % STEP === 0) yield;
    const vmsdName = object.get('vmsd_name');
    const version = object.get('version');
    const fields = object.get('fields');
    if (!Array.isArray(fields)) return undefined;
    const drafts: Draft[] = [];
    for (const value of fields) {
      const field = yield* this.#field(value);
      if (field === undefined) return undefined;
      drafts.push(field);
    }
    correctPointerArrays(drafts);
    const subsections = yield* this.#subsections(object.get('subsections'));
    if (subsections === undefined) return undefined;
    return {
      vmsdName: typeof vmsdName === 'string' ? vmsdName : undefined,
      version: typeof version === 'number' ? version : undefined,
      fields: drafts,
      subsections,
    };
  }

  *#subsections(value: OrderedJson | undefined): Steps<StateDescription[] | undefined> {
    if (value === undefined) return [];
    if (!Array.isArray(value)) return undefined;
    const subsections: StateDescription[] = [];
    for (const item of value) {
      const state = item instanceof OrderedObject ? yield* this.state(item) : undefined;
      if (state?.vmsdName === undefined) return undefined;
      subsections.push(state);
    }
    return subsections;
  }

  *#field(value: OrderedJson): Steps<Draft | undefined> {
    if (++this.#done % STEP === 0) yield;
    if (!(value instanceof OrderedObject)) return undefined;
    const name = value.get('name');
    const type = value.get('type');
    const size = value.get('size');
    const length = value.get('array_len');
    const index = value.get('index');
    if (!isCount(size) || (length !== undefined && !isCount(length))) return undefined;
    return {
      name: typeof name === 'string' ? name : '',
      type: typeof type === 'string' ? type : 'unknown',
      size,
      count: length ?? 1,
      compressed: length !== undefined,
      index: isCount(index) ? index : undefined,
      states: yield* this.#states(value),
    };
  }

  /** `struct` holds one state; otherwise each key `vmsd_name` begins another in the field itself. */
  *#states(field: OrderedObject): Steps<StateDescription[]> {
    const struct = field.get('struct');
    const parts: OrderedObject[] = [];
    if (struct instanceof OrderedObject) {
      parts.push(struct);
    } else {
      for (const [i, name] of field.names.entries()) {
        if (++this.#done % STEP === 0) yield;
        if (name === 'vmsd_name') parts.push(new OrderedObject());
        parts.at(-1)?.add(name, field.values[i] ?? null);
      }
    }
    const states: StateDescription[] = [];
    let whole = true;
    for (const part of parts) {
      const state = yield* this.state(part);
      if (state === undefined) whole = false;
      else states.push(state);
    }
    return whole ? states : [];
  }
}

/**
 * QEMU 9.2.4 and later describe an array of pointers in runs: objects of the element's type and
 * objects of type `nullptr`, all of one name. Two of their lengths count too much
 * (migration/vmstate.c vmstate_save_state_v, QEMU 10.2):
 *
 * - an array that begins with an element claims all of its elements in the first object;
 * - where elements have one object each, every NULL of a run has one as well, and claims all that
 *   follow.
 */
function correctPointerArrays(fields: Draft[]): void {
  for (let from = 0, to = 1; from < fields.length; from = to++) {
    while (to < fields.length && fields[to]?.name === fields[from]?.name) to++;
    if (to - from > 1) correctRuns(fields.slice(from, to));
  }
}

function correctRuns(runs: Draft[]): void {
  const isNull = (run: Draft | undefined): boolean => run?.type === 'nullptr';
  const first = runs[0];
  if (first === undefined || !runs.some(isNull)) return;
  const oneEach = runs.some(
    (run, i) => run.index !== undefined || (isNull(run) && isNull(runs[i + 1])),
  );
  if (oneEach) {
    for (const run of runs) run.count = 1;
    return;
  }
  if (isNull(first)) return;
  const others = runs.reduce((sum, run) => sum + run.count, -first.count);
  if (first.count > others) first.count -= others;
}

/** Bytes of a subsection's header: 0x05, counted name, u32 version. */
export function subsectionHeaderLength(name: string): number {
  return 1 + 1 + Buffer.byteLength(name) + 4;
}

/** Bytes of the fields alone. Infinite or inexact when they make no sense. */
export function fieldsLength(fields: readonly FieldDescription[]): number {
  return fields.reduce((sum, field) => sum + field.size * field.count, 0);
}

/**
 * Bytes of a state: its fields, and its subsections with their headers. The subsections of nested
 * structs are part of the struct's size already. Undefined when it is no safe integer.
 */
export function stateLength(state: StateDescription): number | undefined {
  return atOnce(measure(state));
}

/** The same in steps. */
export function* measure(state: StateDescription): Steps<number | undefined> {
  let sum = fieldsLength(state.fields);
  for (const sub of state.subsections) {
    yield;
    const inner = yield* measure(sub);
    if (inner === undefined) return undefined;
    sum += subsectionHeaderLength(sub.vmsdName ?? '') + inner;
  }
  return Number.isSafeInteger(sum) ? sum : undefined;
}

function isCount(value: OrderedJson | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
