import { type FieldDescription, type StateDescription, stateLength } from '../qevm/description.js';
import type { Findings, Path } from './findings.js';
import type { DeviceNode, ListNode, StateNode, TreeNode, UndecodedNode } from './node.js';
import { WORDS } from './scalar.js';

type Base = Pick<DeviceNode, 'name' | 'type' | 'offset' | 'size'>;
type DecodeState = (state: StateDescription, start: number, end: number, path: Path) => StateNode;

/**
 * `qtailq` and `qlist`: (u8 1, element)*, u8 0 (migration/vmstate-types.c put_qtailq, put_qlist;
 * QEMU 10.2). The field holds one state for each element.
 */
export function decodeList(
  findings: Findings,
  decodeState: DecodeState,
  field: FieldDescription,
  base: Base,
  path: Path,
): ListNode {
  const elements: DeviceNode[] = [];
  const walk = new ListWalk(findings, base, 0);
  for (const [i, state] of field.states.entries()) {
    const size = walk.element(elementSize(state, walk, i === field.states.length - 1, 0));
    if (size === undefined || !findings.afford(1, walk.at, path)) break;
    const name = `[${i}]`;
    const node = { name, type: 'struct', offset: walk.at, size };
    const end = walk.at + size;
    const decoded = decodeState(state, walk.at, end, { name, parent: path });
    elements.push({ kind: 'struct', ...node, state: decoded });
    walk.at = end;
  }
  const undecoded = walk.finish(path);
  if (undecoded !== undefined) elements.push(undecoded);
  return { kind: 'list', ...base, elements };
}

/**
 * `gtree`: u32 count, (u8 1, key, value)*, u8 0 (put_gtree). A key is a state of its own, or a u64
 * without description.
 */
export function decodeTree(
  findings: Findings,
  decodeState: DecodeState,
  field: FieldDescription,
  base: Base,
  path: Path,
): TreeNode {
  const entries: { key: DeviceNode; value: DeviceNode }[] = [];
  const walk = new ListWalk(findings, base, 4);
  const count = base.size < 4 ? 0 : findings.data.getUint32(base.offset);
  const { states } = field;
  const ownKeys = count > 0 && states.length === 2 * count;
  for (let i = 0; i < count && (ownKeys || states.length === count); i++) {
    const keyState = ownKeys ? states[2 * i] : undefined;
    const valueState = ownKeys ? states[2 * i + 1] : states[i];
    if (valueState === undefined) break;
    const keySize = keyState === undefined ? 8 : (stateLength(keyState) ?? base.size);
    const valueSize = elementSize(valueState, walk, i === count - 1, keySize);
    const both = walk.element(valueSize === undefined ? undefined : keySize + valueSize);
    if (both === undefined || !findings.afford(2, walk.at, path)) break;
    const middle = walk.at + keySize;
    const here: Path = { name: `[${i}]`, parent: path };
    const key: DeviceNode =
      keyState === undefined
        ? directKey(findings, walk.at)
        : {
            kind: 'struct',
            name: 'key',
            type: 'struct',
            offset: walk.at,
            size: keySize,
            state: decodeState(keyState, walk.at, middle, here),
          };
    const value: DeviceNode = {
      kind: 'struct',
      name: 'value',
      type: 'struct',
      offset: middle,
      size: both - keySize,
      state: decodeState(valueState, middle, walk.at + both, here),
    };
    entries.push({ key, value });
    walk.at += both;
  }
  const undecoded = walk.finish(path);
  return { kind: 'tree', ...base, entries, ...(undecoded === undefined ? {} : { undecoded }) };
}

function directKey(findings: Findings, offset: number): DeviceNode {
  const value = WORDS.read(findings.data, offset);
  return { kind: 'scalar', name: 'key', type: 'uint64', offset, size: 8, value };
}

/** By the description; for the last one, by what is left: descriptions err. */
function elementSize(
  state: StateDescription,
  walk: ListWalk,
  last: boolean,
  before: number,
): number | undefined {
  return last ? walk.end - 1 - (walk.at + 1 + before) : stateLength(state);
}

class ListWalk {
  /** Offset in the payload of the next byte. */
  at: number;
  readonly end: number;

  constructor(
    readonly findings: Findings,
    base: Base,
    headerSize: number,
  ) {
    this.end = base.offset + base.size;
    this.at = Math.min(this.end, base.offset + headerSize);
  }

  /** Passes the mark before an element of that size; undefined if there cannot be one. */
  element(size: number | undefined): number | undefined {
    const marked = this.findings.payload[this.at] === 1 && this.at < this.end;
    if (size === undefined || size < 0 || !marked) return undefined;
    if (this.at + 1 + size >= this.end) return undefined;
    this.at += 1;
    return size;
  }

  /** Takes the end mark; whatever else is left is undecoded. */
  finish(path: Path): UndecodedNode | undefined {
    const size = this.end - this.at;
    if (size === 0 || (size === 1 && this.findings.payload[this.at] === 0)) return undefined;
    const message = (): string => `${size} bytes of the list are not as described`;
    this.findings.warn('W_DESCRIPTION', this.at, path, message);
    return this.findings.gap('', 'undecoded', this.at, size);
  }
}
