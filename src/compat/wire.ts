import type { DeviceNode, StateNode } from '../devices/node.js';
import { expectedFields } from './align.js';
import type { TargetField, TargetState } from './dump.js';

/** Bytes that something can take in a stream: at least, at most. */
export type Range = readonly [number, number];

const ANY: Range = [0, Number.POSITIVE_INFINITY];
const SCALAR_SIZES: ReadonlySet<number> = new Set([1, 2, 4, 8]);
const POINTER = 8;
/** VMSTATE_UNUSED: bytes that are read and thrown away. */
export const UNUSED = 'unused';

/**
 * Types whose values take as many bytes in the stream as in memory (migration/vmstate-types.c). A
 * timer does not, nor does a bitmap or what only its device knows.
 */
const PLAIN =
  /^(bool|u?int(8|16|32|64)|int32 le|int32 equal|uint(8|16|32) equal|int64 equal|(unused_)?buffer)$/;

export function isPlain(type: string): boolean {
  return PLAIN.test(type);
}

/**
 * What a field of the target would read. Structs count without their subsections.
 * @param counted whether the dump tells the lengths of arrays: otherwise any field may be one
 */
export function wireRange(field: TargetField, counted: boolean): Range {
  const [least, most] = elementRange(field, counted);
  const times = field.count ?? 1;
  const range: Range = [least * times, times === 0 ? 0 : most * times];
  return field.optional ? [0, range[1]] : range;
}

/** What a field that is there reads at least; an array, with one element. */
export function leastOfOne(field: TargetField, counted: boolean): number {
  const { state, version } = field;
  const least = wireRange(field, counted)[0];
  return state === undefined ? least : Math.max(least, stateLeast(state, version, counted));
}

function elementRange(field: TargetField, counted: boolean): Range {
  const { name, size, state, count, version } = field;
  if (state !== undefined) {
    // A list takes bytes of its own; whether it is one is not said. A lone field may be an array.
    const least = count === undefined ? 0 : stateLeast(state, version, counted);
    return [least, Number.POSITIVE_INFINITY];
  }
  if (name === UNUSED) return [size, size];
  // An array of pointers has the size of a pointer, whatever it points to.
  if (count !== undefined && size === POINTER) return ANY;
  if (!SCALAR_SIZES.has(size)) return ANY;
  return [size, counted ? size : Number.POSITIVE_INFINITY];
}

/** By state; a dump is either counted or not. */
const leasts = new WeakMap<TargetState, number>();

function stateLeast(state: TargetState, fieldVersion: number, counted: boolean): number {
  const known = leasts.get(state);
  if (known !== undefined) return known;
  // Structs are read at their own version, some containers at that of the field.
  const version = Math.min(state.version, fieldVersion);
  let least = 0;
  for (const { field } of expectedFields(state.fields, version)) {
    least += wireRange(field, counted)[0];
  }
  leasts.set(state, least);
  return least;
}

/**
 * How many bytes more the target reads than the stream has, for a field of the same name that is no
 * struct. Undefined: the same, or not to be told.
 */
export function sizeDifference(node: DeviceNode, field: TargetField): number | undefined {
  const element = elementOf(node);
  if (element === undefined || !isPlain(node.type)) return undefined;
  const { size, count } = field;
  if (size === 0) return undefined;
  const elements = element.size === 0 ? 0 : node.size / element.size;
  // An array of pointers has the size of a pointer, whatever it points to.
  const pointers = size === POINTER && element.size < POINTER;
  if (count !== undefined) {
    const total = count * size;
    if (total === node.size || (pointers && count === elements)) return undefined;
    return pointers ? (count - elements) * element.size : total - node.size;
  }
  // Not counted: one value, an array of variable length, or any array in older dumps.
  if (size === node.size || (elements > 1 && pointers)) return undefined;
  const divides = node.size % size === 0 && (elements > 1 || !SCALAR_SIZES.has(node.size));
  return divides ? undefined : size - node.size;
}

/** The first value, for one of a type whose size is known. */
function elementOf(node: DeviceNode): { size: number } | undefined {
  switch (node.kind) {
    case 'scalar':
    case 'bytes':
      return node;
    case 'scalars':
      return { size: node.values.type.width };
    case 'array': {
      const [first] = node.elements;
      const plain = node.elements.every(
        ({ kind, size }) => kind !== 'null' && size === first?.size,
      );
      return plain && (first?.kind === 'scalar' || first?.kind === 'bytes') ? first : undefined;
    }
    default:
      return undefined;
  }
}

/**
 * Whether a field that the stream lacks may be an array without elements, which leaves no trace in a
 * stream: its length stands in the same state as an integer that is 0. `certain` when that one is
 * called after it, as `msi_devs_num`.
 */
export function mayBeEmpty(state: StateNode, field: TargetField): 'certain' | 'possible' | 'no' {
  if (field.count !== undefined) return field.count === 0 ? 'certain' : 'no';
  const zeros = state.fields.filter((node) => node.kind === 'scalar' && Number(node.value) === 0);
  if (zeros.some(({ name }) => name !== field.name && name.includes(field.name))) return 'certain';
  return zeros.some(({ type }) => /int/.test(type)) ? 'possible' : 'no';
}
