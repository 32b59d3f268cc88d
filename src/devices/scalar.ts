import type { StateDescription } from '../qevm/description.js';

/** `bigint` for 64-bit types, `number` for smaller ones. Floating point is left as raw bits. */
export type Scalar = number | bigint | boolean;

/** How a type of fixed width is read (migration/vmstate-types.c, QEMU 2.3 to 11.1). Big-endian. */
export interface ScalarType {
  /** Bytes. */
  readonly width: 1 | 2 | 4 | 8;
  readonly signed: boolean;
  read(view: DataView, at: number): Scalar;
}

const U8: ScalarType = { width: 1, signed: false, read: (v, at) => v.getUint8(at) };
const I8: ScalarType = { width: 1, signed: true, read: (v, at) => v.getInt8(at) };
const U16: ScalarType = { width: 2, signed: false, read: (v, at) => v.getUint16(at) };
const I16: ScalarType = { width: 2, signed: true, read: (v, at) => v.getInt16(at) };
const U32: ScalarType = { width: 4, signed: false, read: (v, at) => v.getUint32(at) };
const I32: ScalarType = { width: 4, signed: true, read: (v, at) => v.getInt32(at) };
const U64: ScalarType = { width: 8, signed: false, read: (v, at) => v.getBigUint64(at) };
const I64: ScalarType = { width: 8, signed: true, read: (v, at) => v.getBigInt64(at) };
const BOOL: ScalarType = { width: 1, signed: false, read: (v, at) => v.getUint8(at) !== 0 };

const TYPES: ReadonlyMap<string, ScalarType> = new Map([
  ['bool', BOOL],
  ['int8', I8],
  ['int16', I16],
  ['int32', I32],
  ['int32 equal', I32],
  ['int32 le', I32],
  ['int64', I64],
  ['uint8', U8],
  ['uint8 equal', U8],
  ['uint16', U16],
  ['uint16 equal', U16],
  ['uint32', U32],
  ['uint32 equal', U32],
  ['uint64', U64],
  // What checks a uint64_t for equality has this name (vmstate_info_uint64_equal).
  ['int64 equal', U64],
  // Nanoseconds; -1 while the timer is not armed (migration/vmstate-types.c, util/qemu-timer.c).
  ['timer', I64],
  // Only with cpr-exec; otherwise a file descriptor has no bytes in the stream.
  ['fd', I32],
  // Raw bits of a double.
  ['CPU_Double_U', U64],
  ['float64', U64],
  // target/ppc/machine.c: both halves of a VSX register, and the vector status.
  ['fpr', U64],
  ['vsr', U64],
  ['cpu/altivec/vscr', U32],
]);

/** The scalar of that name, if an element of it has that many bytes. */
export function scalarType(name: string, size: number): ScalarType | undefined {
  const type = TYPES.get(name);
  return type?.width === size ? type : undefined;
}

/** Whether a type of that name has a fixed width. */
export function isScalarName(name: string): boolean {
  return TYPES.has(name);
}

const u64 = (name: string): StateDescription['fields'][number] => ({
  name,
  type: 'uint64',
  size: 8,
  count: 1,
  compressed: false,
  index: undefined,
  states: [],
});

/** Records without a description of their own. `slbe`: target/ppc/machine.c put_slbe, QEMU 10.2. */
export const RECORDS: ReadonlyMap<string, StateDescription> = new Map([
  [
    'slbe',
    {
      vmsdName: undefined,
      version: undefined,
      fields: [u64('esid'), u64('vsid')],
      subsections: [],
    },
  ],
]);

/** Scalars side by side in a payload. */
export class ScalarArray implements Iterable<Scalar> {
  readonly #view: DataView;
  /** How many there are. */
  readonly length: number;

  constructor(
    readonly type: ScalarType,
    readonly bytes: Uint8Array,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.length = Math.floor(bytes.length / type.width);
  }

  /** Undefined outside of the array. */
  at(index: number): Scalar | undefined {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) return undefined;
    return this.type.read(this.#view, index * this.type.width);
  }

  *[Symbol.iterator](): Generator<Scalar> {
    for (let i = 0; i < this.length; i++) {
      yield this.type.read(this.#view, i * this.type.width);
    }
  }
}

/** Of a bitmap; of a tree's direct key. */
export const WORDS: ScalarType = U64;
