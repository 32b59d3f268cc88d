import { type LimitOptions, limitsOf } from '../limits.js';
import { type FieldDescription, fieldsLength, type StateDescription } from '../qevm/description.js';
import { Findings, type Path } from './findings.js';
import { decodeList, decodeTree } from './lists.js';
import type { ArrayNode, DeviceNode, DeviceTree, StateNode } from './node.js';
import { type Gap, NULL_MARKER, type Place, placeFields } from './place.js';
import { isScalarName, RECORDS, ScalarArray, scalarType, WORDS } from './scalar.js';
import { findSegments, type Segment } from './segments.js';

const MAX_SEARCHES = 32;

export interface DecodeDeviceOptions {
  /** Name of the device, the first part of the paths in warnings. Default: its vmsd's name. */
  readonly path?: string | undefined;
  /** Of them, `deviceNodes` counts here. Default: DEFAULT_LIMITS. */
  readonly limits?: LimitOptions | undefined;
}

/**
 * Decodes a device's payload by its description.
 *
 * Every byte of the payload is in the tree once, but for the headers of subsections and the marks
 * of lists. Never throws for a description that is wrong: what it does not explain becomes a node
 * of kind `undecoded`, and a warning. Time and memory are bounded by the sizes of payload and
 * description and by the limit `deviceNodes`.
 *
 * @param payload the section's bytes without header and footer; the tree refers to them
 */
export function decodeDevice(
  description: StateDescription,
  payload: Uint8Array,
  options: DecodeDeviceOptions = {},
): DeviceTree {
  const findings = new Findings(payload, limitsOf(options.limits).deviceNodes);
  const path = { name: options.path ?? description.vmsdName ?? 'device', parent: undefined };
  const state = new Decoder(findings).state(description, 0, payload.length, path);
  const { undecoded, warnings } = findings;
  return { state, length: payload.length, undecoded, warnings };
}

type Draft = Omit<StateNode, 'size' | 'subsections'> & { size: number; subsections: StateNode[] };

class Decoder {
  readonly #findings: Findings;
  readonly #searches = { searches: MAX_SEARCHES };

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  /** The state that takes exactly the bytes from `start` to `end`. */
  readonly state = (
    description: StateDescription,
    start: number,
    end: number,
    path: Path,
  ): StateNode => {
    const findings = this.#findings;
    const { vmsdName, version } = description;
    if (!findings.afford(1 + description.subsections.length, start, path)) {
      const fields = end > start ? [findings.gap('', 'undecoded', start, end - start)] : [];
      return { vmsdName, version, offset: start, size: end - start, fields, subsections: [] };
    }
    const { payload } = findings;
    const { first, others, missing } = findSegments(
      description,
      payload,
      start,
      end,
      this.#searches,
    );
    for (const sub of missing) {
      const message = (): string =>
        `the subsection '${sub.vmsdName}' is described but is not there`;
      findings.warn('W_SUBSECTION', start, path, message);
    }
    const root = this.#segment(first, path);
    if (others.length === 0) return root;
    const made = new Map<Segment | undefined, { node: Draft; path: Path }>([
      [first, { node: root, path }],
    ]);
    for (const segment of others) {
      const parent = made.get(segment.parent) ?? { node: root, path };
      const here = { name: segment.state.vmsdName ?? '', parent: parent.path };
      const node = this.#segment(segment, here);
      made.set(segment, { node, path: here });
      parent.node.subsections.push(node);
      // A subsection belongs to all states around it.
      for (let s = segment.parent; s !== undefined; s = s.parent) {
        const outer = made.get(s)?.node;
        if (outer !== undefined) outer.size = segment.end - outer.offset;
      }
    }
    return root;
  };

  #segment({ state, start, end, version }: Segment, path: Path): Draft {
    if (version !== undefined) {
      const message = (): string =>
        `the subsection has version ${version}; described is ${state.version}`;
      this.#findings.warn('W_SUBSECTION', start, path, message);
    }
    return {
      vmsdName: state.vmsdName,
      version: version ?? state.version,
      offset: start,
      size: end - start,
      fields: this.#fields(state.fields, start, end, path),
      subsections: [],
    };
  }

  #fields(
    fields: readonly FieldDescription[],
    start: number,
    end: number,
    path: Path,
  ): DeviceNode[] {
    const findings = this.#findings;
    if (!findings.afford(fields.length, start, path)) {
      return end > start ? [findings.gap('', 'undecoded', start, end - start)] : [];
    }
    const { parts, verdict } = placeFields(fields, findings.payload, start, end);
    const nodes: DeviceNode[] = [];
    let run: Place[] = [];
    const flush = (): void => {
      const node = this.#run(run, path);
      if (node !== undefined) nodes.push(node);
      run = [];
    };
    for (const part of parts) {
      if (!('field' in part)) {
        flush();
        this.#misfit(part, fields, end - start, path);
        const { offset, size } = part;
        if (size > 0) nodes.push(findings.gap(namesOf(part.fields), 'undecoded', offset, size));
        continue;
      }
      if (run[0]?.field.name !== part.field.name) flush();
      run.push(part);
    }
    flush();
    if (verdict === 'null-pointers') this.#nullPointers(parts, path);
    return nodes;
  }

  #misfit(gap: Gap, fields: readonly FieldDescription[], size: number, path: Path): void {
    const message = (): string => {
      const what =
        gap.fields.length === 0
          ? `${gap.size} bytes are left over`
          : `${gap.size} bytes cannot be divided among ${namesOf(gap.fields)}`;
      const described = fieldsLength(fields);
      return `the fields take ${size} bytes and not the described ${described}; ${what}`;
    };
    this.#findings.warn('W_DESCRIPTION', gap.offset, path, message);
  }

  #nullPointers(parts: readonly (Place | Gap)[], path: Path): void {
    for (const part of parts) {
      const nulls = 'field' in part ? part.nulls : undefined;
      if (!('field' in part) || nulls === undefined) continue;
      const message = (): string =>
        `${nulls.length} of ${part.field.count} elements are NULL, which is not described`;
      const here = { name: part.field.name, parent: path };
      this.#findings.warn('W_NULL_POINTERS', part.offset, here, message);
    }
  }

  /** Field objects of one name that follow each other: a value, or an array. */
  #run(places: readonly Place[], parent: Path): DeviceNode | undefined {
    const [place] = places;
    const last = places.at(-1);
    if (place === undefined || last === undefined) return undefined;
    const { field, offset } = place;
    const { name } = field;
    const path = { name, parent };
    if (places.length === 1) {
      const { size } = place;
      if (!field.compressed) return this.#element(field, name, offset, size, path);
      const scalar = scalarType(field.type, field.size);
      if (scalar !== undefined && place.nulls === undefined) {
        const values = new ScalarArray(scalar, this.#findings.view(offset, size));
        return { kind: 'scalars', name, type: field.type, offset, size, values };
      }
    }
    const { type } = places.find((p) => p.field.type !== 'nullptr')?.field ?? field;
    const size = last.offset + last.size - offset;
    const count = places.reduce((sum, p) => sum + p.field.count, 0);
    const elements: DeviceNode[] = [];
    for (const p of places) this.#elements(p, elements, path);
    return { kind: 'array', name, type, offset, size, count, elements } satisfies ArrayNode;
  }

  #elements({ field, offset, size, nulls }: Place, into: DeviceNode[], path: Path): void {
    const findings = this.#findings;
    if (size === 0 && field.count > 1) {
      const message = (): string => `${field.count} elements are described without bytes`;
      findings.warn('W_DESCRIPTION', offset, path, message);
      return;
    }
    const end = offset + size;
    for (let i = 0, n = 0, at = offset; i < field.count; i++) {
      const name = `[${into.length}]`;
      if (!findings.afford(1, at, path)) {
        if (end > at) into.push(findings.gap(name, field.type, at, end - at));
        return;
      }
      if (nulls?.[n] === i) {
        n++;
        into.push({ kind: 'null', name, type: 'nullptr', offset: at, size: 1 });
        at += 1;
      } else {
        into.push(this.#element(field, name, at, field.size, { name, parent: path }));
        at += field.size;
      }
    }
  }

  /** One element of exactly `size` bytes. */
  #element(
    field: FieldDescription,
    name: string,
    offset: number,
    size: number,
    path: Path,
  ): DeviceNode {
    const findings = this.#findings;
    const { type, states } = field;
    const base = { name, type, offset, size };
    const scalar = scalarType(type, size);
    if (scalar !== undefined) {
      return { kind: 'scalar', ...base, value: scalar.read(findings.data, offset) };
    }
    if (size === 1 && findings.payload[offset] === NULL_MARKER && canBeNull(field)) {
      return { kind: 'null', ...base };
    }
    if (type === 'qtailq' || type === 'qlist') {
      return decodeList(findings, this.state, field, base, path);
    }
    if (type === 'gtree') return decodeTree(findings, this.state, field, base, path);
    if (type === 'bitmap' && size % 8 === 0) {
      return {
        kind: 'bitmap',
        ...base,
        words: new ScalarArray(WORDS, findings.view(offset, size)),
      };
    }
    const record = RECORDS.get(type);
    if (record !== undefined && fieldsLength(record.fields) === size) {
      return { kind: 'struct', ...base, state: this.state(record, offset, offset + size, path) };
    }
    // Other types than struct can have put a state's keys into the field: vstruct, tmp.
    const [state] = states;
    if (state !== undefined && states.length === 1) {
      return { kind: 'struct', ...base, state: this.state(state, offset, offset + size, path) };
    }
    if ((isScalarName(type) && size > 0) || type === 'nullptr') {
      findings.warn(
        'W_DESCRIPTION',
        offset,
        path,
        () => `${size} bytes cannot be a value of type ${type}`,
      );
    }
    return { kind: 'bytes', ...base, bytes: findings.view(offset, size) };
  }
}

/** By its type; or, by QEMU <= 9.1, as an element that put nothing of itself into the description. */
function canBeNull({ type, states }: FieldDescription): boolean {
  if (type === 'nullptr') return true;
  if (type === 'struct' || type === 'vstruct') {
    return states.every((s) => s.fields.length + s.subsections.length === 0);
  }
  return isScalarName(type);
}

function namesOf(fields: readonly FieldDescription[]): string {
  const names = [...new Set(fields.slice(0, 4).map((field) => field.name))];
  return names.join(', ') + (fields.length > 4 ? ', …' : '');
}
