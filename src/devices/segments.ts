import { fieldsLength, type StateDescription } from '../qevm/description.js';
import { ELEMENT } from '../qevm/elements.js';

/** The fields of a state or of one of its subsections: what stands between two headers. */
export interface Segment {
  readonly state: StateDescription;
  /** Offsets in the payload of the first field and of what follows the last one. */
  readonly start: number;
  readonly end: number;
  readonly parent: Segment | undefined;
  /** Version in the header, where that differs from the described one. */
  readonly version: number | undefined;
}

export interface Segments {
  /** The state's own fields. */
  readonly first: Segment;
  /** Those of its subsections, in the order of the stream; a parent comes before its children. */
  readonly others: readonly Segment[];
  /** Described subsections whose header is not there. */
  readonly missing: readonly StateDescription[];
}

type Draft = { -readonly [K in keyof Segment]: Segment[K] };

/** Searches for headers that are allowed for one device: each may read all of the payload. */
export interface SearchBudget {
  searches: number;
}

/**
 * Divides a state's bytes at the headers of its subsections (migration/vmstate.c
 * vmstate_subsection_save, QEMU 10.2): where the description has them, or else, as it may be wrong
 * about what stands before, where the next one is found.
 */
export function findSegments(
  state: StateDescription,
  payload: Uint8Array,
  start: number,
  end: number,
  budget: SearchBudget,
): Segments {
  const first: Draft = { state, start, end, parent: undefined, version: undefined };
  if (state.subsections.length === 0) return { first, others: [], missing: [] };
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const others: Draft[] = [];
  const missing: StateDescription[] = [];
  let last = first;

  const add = (sub: StateDescription, parent: Segment): void => {
    const head = header(sub);
    const described = last.start + fieldsLength(last.state.fields);
    const at = matches(bytes, head, described, end)
      ? described
      : search(bytes, head, last.start, end, budget);
    if (at < 0) {
      missing.push(sub);
      return;
    }
    last.end = at;
    const version = bytes.readUInt32BE(at + head.length);
    last = {
      state: sub,
      start: at + head.length + VERSION,
      end,
      parent,
      version: version === sub.version ? undefined : version,
    };
    others.push(last);
    const segment = last;
    for (const inner of sub.subsections) add(inner, segment);
  };
  for (const sub of state.subsections) add(sub, first);
  return { first, others, missing };
}

/** Bytes of the version behind the name. */
const VERSION = 4;

function header(state: StateDescription): Buffer {
  const name = Buffer.from(state.vmsdName ?? '');
  return Buffer.concat([Buffer.of(ELEMENT.SUBSECTION, name.length & 0xff), name]);
}

function matches(bytes: Buffer, head: Buffer, at: number, end: number): boolean {
  if (at + head.length + VERSION > end) return false;
  return bytes.compare(head, 0, head.length, at, at + head.length) === 0;
}

function search(
  bytes: Buffer,
  head: Buffer,
  from: number,
  end: number,
  budget: SearchBudget,
): number {
  if (budget.searches-- <= 0) return -1;
  const at = bytes.subarray(0, end).indexOf(head, from);
  return at >= 0 && at + head.length + VERSION <= end ? at : -1;
}
