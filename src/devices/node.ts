import type { Scalar, ScalarArray } from './scalar.js';

/**
 * A device's state as a tree of typed values. Offsets and sizes are bytes in the payload of the
 * device's section. Bytes are views of the payload, not copies.
 */
export interface DeviceTree {
  readonly state: StateNode;
  /** Bytes of the payload. */
  readonly length: number;
  /** Bytes of it in nodes of kind `undecoded`. */
  readonly undecoded: number;
  /** Where the description and the payload disagree. Empty: every byte is accounted for. */
  readonly warnings: readonly DeviceWarning[];
}

export interface DeviceWarning {
  readonly code: /** NULL pointers were found that the description (QEMU <= 9.1) does not know of. */
    | 'W_NULL_POINTERS'
    /** The description does not fit the payload; what it does not fit is left undecoded. */
    | 'W_DESCRIPTION'
    /** A subsection stands elsewhere, has another version or is missing. */
    | 'W_SUBSECTION'
    /** The tree has too many nodes; the rest is left undecoded. */
    | 'W_DEVICE_LIMIT';
  /** Position in the payload. */
  readonly offset: number;
  /** Names of the fields that lead there, outermost first. */
  readonly path: string;
  readonly message: string;
}

/** What one vmsd (VMStateDescription) wrote. */
export interface StateNode {
  /** Undefined for devices of the old style and for records that this package knows by type. */
  readonly vmsdName: string | undefined;
  readonly version: number | undefined;
  readonly offset: number;
  /** Bytes from `offset`, with subsections. */
  readonly size: number;
  readonly fields: readonly DeviceNode[];
  readonly subsections: readonly StateNode[];
}

interface Node {
  /** The field's name; of an element of an array, `[i]`. */
  readonly name: string;
  /** Name of the VMStateInfo, `struct` or `vstruct`. */
  readonly type: string;
  readonly offset: number;
  readonly size: number;
}

export interface ScalarNode extends Node {
  readonly kind: 'scalar';
  readonly value: Scalar;
}

/** An array of scalars, read when asked. */
export interface ScalarsNode extends Node {
  readonly kind: 'scalars';
  readonly values: ScalarArray;
}

/** `buffer`, `unused_buffer`, and types whose format only their device knows. */
export interface BytesNode extends Node {
  readonly kind: 'bytes';
  readonly bytes: Uint8Array;
}

/** Bit i is bit i % 64 of word i / 64, where bit 0 is the least significant. */
export interface BitmapNode extends Node {
  readonly kind: 'bitmap';
  readonly words: ScalarArray;
}

/** A NULL in an array of pointers: one byte 0x30 (QEMU >= 2.9). */
export interface NullNode extends Node {
  readonly kind: 'null';
}

export interface ArrayNode extends Node {
  readonly kind: 'array';
  /** Elements by the description; more than `elements.length` only where they have no bytes. */
  readonly count: number;
  readonly elements: readonly DeviceNode[];
}

export interface StructNode extends Node {
  readonly kind: 'struct';
  readonly state: StateNode;
}

/** `qtailq` and `qlist`. */
export interface ListNode extends Node {
  readonly kind: 'list';
  /** Structs; in the end a node of kind `undecoded` if the list could not be divided. */
  readonly elements: readonly DeviceNode[];
}

/** `gtree`. */
export interface TreeNode extends Node {
  readonly kind: 'tree';
  readonly entries: readonly { readonly key: DeviceNode; readonly value: DeviceNode }[];
  /** What could not be divided into entries. */
  readonly undecoded?: UndecodedNode;
}

/** Bytes that the description does not explain; a warning says why. */
export interface UndecodedNode extends Node {
  readonly kind: 'undecoded';
  readonly bytes: Uint8Array;
}

export type DeviceNode =
  | ScalarNode
  | ScalarsNode
  | BytesNode
  | BitmapNode
  | NullNode
  | ArrayNode
  | StructNode
  | ListNode
  | TreeNode
  | UndecodedNode;
