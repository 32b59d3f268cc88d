import type { DeviceNode, StateNode } from '../devices/node.js';
import { align, type Effort, type Expected, expectedFields, type Step } from './align.js';
import type { TargetField, TargetState } from './dump.js';
import type { Outcome } from './outcome.js';
import { leastOfOne, mayBeEmpty, type Range, sizeDifference, UNUSED, wireRange } from './wire.js';

/** Containers that are read at the version of their field (migration/vmstate-types.c get_tmp …). */
const VERSION_OF_FIELD: ReadonlySet<string> = new Set(['tmp', 'qtailq', 'qlist', 'gtree']);

/** Says of an element of an array of pointers if it follows (QEMU 11 and later); one byte. */
const POINTER_MARKER = 'ptr-marker';

const MISFIT = 'the description of the stream does not fit what it holds there';
const TOO_MUCH = 'there is too much to compare';
const ANYTHING: Range = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];

/** A state of the stream inside of others, from the innermost of the target's on. */
interface Place {
  readonly path: string;
  readonly outer: readonly TargetState[];
}

/** What all comparisons of a section share. */
export interface Terms {
  readonly outcome: Outcome;
  readonly effort: Effort;
  /** Whether the dump tells the lengths of arrays. */
  readonly counted: boolean;
}

/**
 * Compares what the stream holds with how the target would read it (migration/vmstate.c
 * vmstate_load_state, vmstate_subsection_load; QEMU 7.2 to 11.1).
 * @param version at which the target reads the fields
 */
export function compareState(
  stream: StateNode,
  target: TargetState,
  version: number,
  path: string,
  terms: Terms,
): void {
  new Comparison(terms).state(stream, target, version, { path, outer: [] });
}

class Comparison {
  readonly outcome: Outcome;
  readonly #effort: Effort;
  readonly #counted: boolean;
  /** Fields at a version, which elements of an array ask for again and again. */
  readonly #expected = new WeakMap<TargetState, { version: number; fields: Expected[] }>();

  constructor({ outcome, effort, counted }: Terms) {
    this.outcome = outcome;
    this.#effort = effort;
    this.#counted = counted;
  }

  state(stream: StateNode, target: TargetState, version: number, place: Place): void {
    this.#fields(stream, target, version, place);
    for (const sub of stream.subsections) this.#subsection(sub, target, place);
  }

  #subsection(sub: StateNode, target: TargetState, { path, outer }: Place): void {
    const name = sub.vmsdName ?? '';
    const here = `${path} / ${name}`;
    if (!this.#effort.spend(target.subsections.length)) {
      this.outcome.shift('undecoded', here, TOO_MUCH, ANYTHING);
      return;
    }
    const known = target.subsections.find((candidate) => candidate.name === name);
    if (known !== undefined) {
      const version = sub.version ?? known.version;
      if (this.versions(version, known, here)) {
        this.state(sub, known, version, { path: here, outer: [target, ...outer] });
      }
      return;
    }
    // What does not begin with the state's name is left to the one around it.
    const left = outer.some((state) => state.subsections.some((s) => s.name === name));
    if (left && !name.startsWith(target.name)) {
      const message = 'the target has this subsection further out, and may find it there';
      this.outcome.doubt('subsection-unknown', here, message);
    } else {
      const message = `the target knows no subsection '${name}' of '${target.name}'`;
      this.outcome.refuse('subsection-unknown', here, message);
    }
  }

  /** False when the target would not begin to read fields. */
  versions(version: number, target: TargetState, path: string): boolean {
    if (version > target.version) {
      const message = `version ${version}, and the target reads up to ${target.version}`;
      this.outcome.refuse('version-too-new', path, message);
    } else if (version < target.minimumVersion) {
      const message = `version ${version}, and the target reads from ${target.minimumVersion} on`;
      this.outcome.refuse('version-too-old', path, message);
    }
    return version <= target.version && version >= target.minimumVersion;
  }

  #fields(stream: StateNode, target: TargetState, version: number, place: Place): void {
    const undecoded = stream.fields.find((node) => node.kind === 'undecoded');
    if (undecoded !== undefined) {
      this.outcome.shift('undecoded', `${place.path} / ${undecoded.name}`, MISFIT, ANYTHING);
      return;
    }
    const steps = this.#effort.spend(target.fields.length)
      ? align(stream.fields, this.#fieldsAt(target, version), this.#effort)
      : undefined;
    if (steps === undefined) {
      this.outcome.shift('undecoded', place.path, TOO_MUCH, ANYTHING);
      return;
    }
    const inner = { ...place, outer: [target, ...place.outer] };
    for (const step of steps) {
      const [node] = step.stream;
      const [expected] = step.target;
      if (step.pair && node !== undefined && expected !== undefined) {
        const path = `${place.path} / ${expected.field.name}`;
        this.#pair(node, expected.field, { ...inner, path });
      } else {
        this.#unpaired(step, stream, target, version, place);
      }
    }
  }

  #fieldsAt(target: TargetState, version: number): Expected[] {
    const known = this.#expected.get(target);
    if (known?.version === version) return known.fields;
    const fields = expectedFields(target.fields, version);
    this.#expected.set(target, { version, fields });
    return fields;
  }

  #pair(node: DeviceNode, field: TargetField, place: Place): void {
    const { path } = place;
    if (field.state !== undefined) {
      this.#struct(node, field, field.state, place);
      if (node.kind === 'struct') this.#count(1, node.size, field, place.path);
      return;
    }
    if (node.kind === 'struct' && (node.type === 'struct' || node.type === 'vstruct')) {
      this.outcome.shift('field-shape', path, 'a struct, and no struct for the target', [
        -node.size,
        Number.POSITIVE_INFINITY,
      ]);
      return;
    }
    const difference = sizeDifference(node, field);
    if (difference === undefined || difference === 0) return;
    const message = `${node.size} bytes, of which the target reads ${node.size + difference}`;
    const more = `${node.size} bytes, and the target reads ${node.size + difference}`;
    this.outcome.shift('field-size', path, difference < 0 ? message : more, [
      difference,
      difference,
    ]);
  }

  #struct(node: DeviceNode, field: TargetField, target: TargetState, place: Place): void {
    switch (node.kind) {
      case 'struct': {
        const version = versionOf(node.type, node.state, field, target);
        this.state(node.state, target, version, place);
        return;
      }
      case 'array': {
        for (const element of node.elements) this.#struct(element, field, target, place);
        if (node.elements.every(({ kind }) => kind === 'struct')) {
          this.#count(node.elements.length, node.size, field, place.path);
        }
        return;
      }
      case 'list':
        for (const element of node.elements) this.#struct(element, field, target, place);
        return;
      case 'tree':
        // A dump has the values of a tree, not its keys.
        for (const { value } of node.entries) this.#struct(value, field, target, place);
        return;
      case 'null':
        return;
      case 'undecoded':
        this.outcome.shift('undecoded', place.path, MISFIT, ANYTHING);
        return;
      default:
        if (node.type === POINTER_MARKER) return;
        this.outcome.shift('field-shape', place.path, 'no struct, and a struct for the target', [
          -node.size,
          Number.POSITIVE_INFINITY,
        ]);
    }
  }

  #count(elements: number, size: number, { count }: TargetField, path: string): void {
    if (count === undefined || count === elements || elements === 0) return;
    const difference = ((count - elements) * size) / elements;
    const message = `${elements} elements, and the target reads ${count}`;
    this.outcome.shift('field-size', path, message, [difference, difference]);
  }

  #unpaired(
    step: Step,
    stream: StateNode,
    target: TargetState,
    version: number,
    { path }: Place,
  ): void {
    const have = step.stream.reduce((sum, node) => sum + node.size, 0);
    const fixed = step.target.filter(({ field }) => !field.optional);
    if (step.stream.length === 0 || have === 0) {
      if (fixed.length > 0 && !this.#effort.spend(fixed.length * stream.fields.length)) {
        this.outcome.shift('undecoded', path, TOO_MUCH, ANYTHING);
        return;
      }
      for (const { field } of fixed) this.#missing(field, stream, path);
      return;
    }
    const names = step.stream.map(({ name }) => name);
    const where = `${path} / ${names[0]}`;
    if (step.target.length === 0) {
      const since = names.length < 10 ? newerField(target, names, version) : undefined;
      const message =
        since === undefined
          ? `the target has no field ${list(names)} (${have} bytes)`
          : `the target reads '${since.name}' from version ${since.version} on, not at ${version}`;
      this.outcome.shift('extra-fields', where, message, [-have, -have]);
      return;
    }
    const [least, most] = sum(step.target, this.#counted);
    // Space that was given up, or is used again: that is how fields come and go on purpose.
    const exact = least === have && most === have;
    if (exact && (onlyUnused(names) || onlyUnused(step.target.map((e) => e.field.name)))) return;
    const others = list(step.target.map((e) => e.field.name));
    const takes = exact ? 'the same bytes' : 'other fields';
    const message = `${list(names)} (${have} bytes), where the target reads ${takes} as ${others}`;
    this.outcome.shift('other-fields', where, message, [least - have, most - have]);
  }

  #missing(field: TargetField, stream: StateNode, path: string): void {
    const empty = mayBeEmpty(stream, field);
    if (empty === 'certain') return;
    const least = empty === 'possible' ? 0 : leastOfOne(field, this.#counted);
    const [, most] = wireRange(field, this.#counted);
    const hint = empty === 'possible' ? ', unless it is an array that has no elements' : '';
    const message = `the target reads a field that the stream does not have${hint}`;
    this.outcome.shift('missing-fields', `${path} / ${field.name}`, message, [least, most]);
  }
}

function versionOf(
  type: string,
  state: StateNode,
  field: TargetField,
  target: TargetState,
): number {
  if (VERSION_OF_FIELD.has(type)) return field.version;
  // VMS_VSTRUCT names a version, which no dump has; others are read at the target's own.
  return type === 'vstruct' ? (state.version ?? target.version) : target.version;
}

function sum(expected: readonly Expected[], counted: boolean): Range {
  let [least, most] = [0, 0];
  for (const { field } of expected) {
    const range = wireRange(field, counted);
    least += range[0];
    most += range[1];
  }
  return [least, most];
}

function newerField(
  target: TargetState,
  names: string[],
  version: number,
): TargetField | undefined {
  return target.fields.find(
    (field) => !field.optional && field.version > version && names.includes(field.name),
  );
}

function onlyUnused(names: readonly string[]): boolean {
  return names.every((name) => name === UNUSED || /^unused\[\d+\]$/.test(name));
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 4).map((name) => `'${name}'`);
  return shown.join(', ') + (names.length > 4 ? ', …' : '');
}
