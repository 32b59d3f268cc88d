import { type FieldDescription, fieldsLength } from '../qevm/description.js';
import { scalarType } from './scalar.js';

/** VMS_NULLPTR_MARKER (include/migration/vmstate.h, QEMU >= 2.9). */
export const NULL_MARKER = 0x30;

/** More of them are not looked for. */
const MAX_NULLS = 100_000;

/** Where a field object's bytes are. Offsets are in the payload. */
export interface Place {
  readonly field: FieldDescription;
  readonly offset: number;
  readonly size: number;
  /** Elements that are NULL although the description does not say so, ascending. */
  readonly nulls: readonly number[] | undefined;
}

/** A stretch that could not be divided. */
export interface Gap {
  /** Fields that should be in it. */
  readonly fields: readonly FieldDescription[];
  readonly offset: number;
  readonly size: number;
}

/** Fields and gaps, ascending, without holes between them. */
export interface Placement {
  readonly parts: readonly (Place | Gap)[];
  readonly verdict: 'exact' | 'null-pointers' | 'gap';
}

/**
 * Divides the bytes from `start` to `end` among fields. Where their described sizes do not add up
 * to that, it tries what is known to be described wrongly:
 *
 * 1. QEMU <= 9.1 describes an array of pointers as if it had no NULLs, which take one byte each.
 *    Elements that begin with the marker are taken for NULL while that explains the difference.
 * 2. An array of which only the first element was measured, while they differ. What stands before
 *    and behind such arrays is placed; they themselves are left as a gap.
 */
export function placeFields(
  fields: readonly FieldDescription[],
  payload: Uint8Array,
  start: number,
  end: number,
): Placement {
  const excess = fieldsLength(fields) - (end - start);
  if (excess === 0) return { parts: forward(fields, start), verdict: 'exact' };
  if (excess > 0) {
    let parts = placeNulls(fields, payload, start, end, excess, mayVary);
    if (parts === undefined && fields.some((field) => isArray(field) && !mayVary(field))) {
      parts = placeNulls(fields, payload, start, end, excess, isArray);
    }
    if (parts !== undefined) return { parts, verdict: 'null-pointers' };
  }
  return { parts: around(fields, start, end), verdict: 'gap' };
}

const isArray = (field: FieldDescription): boolean => field.count > 1 && field.type !== 'nullptr';

/** Whether elements of this array can differ in size from the first. */
const mayVary = (field: FieldDescription): boolean =>
  isArray(field) && scalarType(field.type, field.size) === undefined;

function forward(fields: readonly FieldDescription[], start: number): Place[] {
  let offset = start;
  return fields.map((field) => {
    const size = field.size * field.count;
    const place = { field, offset, size, nulls: undefined };
    offset += size;
    return place;
  });
}

function placeNulls(
  fields: readonly FieldDescription[],
  payload: Uint8Array,
  start: number,
  end: number,
  excess: number,
  candidate: (field: FieldDescription) => boolean,
): Place[] | undefined {
  const places: Place[] = [];
  let offset = start;
  let left = excess;
  let found = 0;
  for (const field of fields) {
    const from = offset;
    const saved = field.size - 1;
    let nulls: number[] | undefined;
    if (saved > 0 && saved <= left && candidate(field)) {
      for (let i = 0; i < field.count && offset < end; i++) {
        if (saved <= left && payload[offset] === NULL_MARKER) {
          if (++found > MAX_NULLS) return undefined;
          nulls ??= [];
          nulls.push(i);
          left -= saved;
          offset += 1;
        } else {
          offset += field.size;
        }
      }
      const size = field.size * field.count - saved * (nulls?.length ?? 0);
      offset = from + size;
    } else {
      offset += field.size * field.count;
    }
    if (offset > end) return undefined;
    places.push({ field, offset: from, size: offset - from, nulls });
  }
  return left === 0 && offset === end ? places : undefined;
}

/** Places fields from the front and from the back; what is between is a gap. */
function around(fields: readonly FieldDescription[], start: number, end: number): (Place | Gap)[] {
  const suspect = fields.some(mayVary) ? mayVary : isArray;
  let first = fields.findIndex(suspect);
  let last = fields.findLastIndex(suspect);
  const known = (from: number, to: number): number => fieldsLength(fields.slice(from, to));
  if (first < 0 || known(0, first) + known(last + 1, fields.length) > end - start) {
    first = countThatFit(fields, end - start);
    last = fields.length - 1;
  }
  const head = forward(fields.slice(0, first), start);
  const from = start + known(0, first);
  const to = end - known(last + 1, fields.length);
  const gap = { fields: fields.slice(first, last + 1), offset: from, size: to - from };
  return [...head, gap, ...forward(fields.slice(last + 1), to)];
}

function countThatFit(fields: readonly FieldDescription[], room: number): number {
  let left = room;
  const misfit = fields.findIndex((field) => {
    left -= field.size * field.count;
    return left < 0;
  });
  return misfit < 0 ? fields.length : misfit;
}
