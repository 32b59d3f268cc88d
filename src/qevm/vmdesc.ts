import { atOnce, inTurns, type Steps } from '../bytes/pace.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError, LimitError, throwIfAborted } from '../errors.js';
import { exceeded, type LimitOptions, type Limits, limitsOf } from '../limits.js';
import { measure, type StateDescription, StateParser } from './description.js';
import { ELEMENT } from './elements.js';
import { type OrderedJson, OrderedObject, parseOrderedJson } from './json.js';
import { OrderedJsonError } from './json-scanner.js';

/**
 * The description that QEMU 2.3 and later append to a stream: JSON that says, field by field, what
 * each device section holds (migration/vmstate.c vmsd_desc_field_start, migration/savevm.c
 * qemu_savevm_state_complete_precopy_non_iterable). It is the only place where the lengths of
 * device sections can be learnt.
 */
export interface VmDescription {
  /** Position of the element's type byte. */
  readonly offset: number;
  /** Bytes of the JSON text. */
  readonly length: number;
  /** The target's page size, if stated. */
  readonly pageSize: number | undefined;
  /** Devices in the order of their sections. */
  readonly devices: readonly DeviceDescription[];
}

export interface DeviceDescription {
  readonly name: string;
  readonly instance: number;
  /** Bytes of the payload by the description, which is not always right; undefined if untellable. */
  readonly payloadLength: number | undefined;
  /** Fields and subsections; undefined where the length of one cannot be told. */
  readonly state: StateDescription | undefined;
}

/** What may stand behind a description: padding of a cluster. */
const PADDING = 1024 * 1024;
/** How far into a text that is too long is looked for what a description begins with. */
const TOP = 4096;
const HEADER = 5;
/** How many places that look like the element are tried. */
const MAX_CANDIDATES = 32;

/** Result of a search: the description, or why there is none. */
export type VmdescSearch =
  | { readonly found: VmDescription }
  | { readonly found: undefined; readonly damaged: FormatError | LimitError | undefined };

/**
 * Finds the description at the end of a seekable source: the last byte 0x06 that is followed by a
 * length that fits and by JSON with `devices`. What follows it may be padding.
 * @param from where the stream begins; nothing before it is looked at
 * @throws IoError; AbortedError
 */
export async function findVmdesc(
  source: ByteSource,
  from: number,
  limits?: LimitOptions,
  signal?: AbortSignal,
): Promise<VmdescSearch> {
  const { vmdescBytes } = limitsOf(limits);
  const size = source.size;
  if (size === undefined || !source.seekable) return { found: undefined, damaged: undefined };
  const step = 1024 * 1024;
  let candidates = 0;
  const lowest = Math.max(from, size - vmdescBytes - PADDING);
  // Windows overlap by the element's header and the '{'.
  for (let end = size; end > lowest; end -= step) {
    throwIfAborted(signal);
    const start = Math.max(lowest, end - step);
    const window = await readAt(source, start, Math.min(size, end + HEADER + 1) - start);
    for (let at = end - start - 1; at >= 0; at--) {
      at = window.lastIndexOf(ELEMENT.VMDESCRIPTION, at);
      if (at < 0) break;
      if (window.length - at < HEADER + 1 || window[at + HEADER] !== 0x7b) continue;
      const length = window.readUInt32BE(at + 1);
      const offset = start + at;
      if (length < 2 || offset + HEADER + length > size) continue;
      if (++candidates > MAX_CANDIDATES) return { found: undefined, damaged: undefined };
      if (length > vmdescBytes) {
        const top = await readAt(source, offset + HEADER, Math.min(length, TOP));
        if (!/^\{\s*"(configuration|page_size|devices)"/.test(top.toString('latin1'))) continue;
        return { found: undefined, damaged: tooLong(limitsOf(limits), offset, length) };
      }
      const json = await readAt(source, offset + HEADER, length);
      // Guest memory may hold anything: only text that looks like the description is parsed.
      if (json.length < length || !json.includes('"devices"')) continue;
      try {
        return { found: await inTurns(parse(json, offset, limits), signal) };
      } catch (error) {
        if (!(error instanceof FormatError || error instanceof LimitError)) throw error;
        // The one nearest to the end is the real one; another inside RAM proves nothing.
        return { found: undefined, damaged: error };
      }
    }
  }
  return { found: undefined, damaged: undefined };
}

async function readAt(source: ByteSource, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let got = 0;
  while (got < length) {
    const count = await source.read(buffer.subarray(got), position + got);
    if (count === 0) break;
    got += count;
  }
  return buffer.subarray(0, got);
}

const PATH = 'vmdescription';

function tooLong(limits: Limits, offset: number, actual: number): LimitError {
  const details = { offset: offset + HEADER, path: PATH, actual };
  return exceeded(limits, 'vmdescBytes', 'the description is too long', details);
}

/**
 * Parses it without a pause: a large one takes seconds. {@link findVmdesc} gives others a turn.
 * @throws FormatError `E_VMDESC` for text that is not a description; LimitError
 */
export function parseVmdesc(
  json: Uint8Array,
  offset: number,
  limits?: LimitOptions,
): VmDescription {
  return atOnce(parse(json, offset, limits));
}

function* parse(
  json: Uint8Array,
  offset: number,
  options: LimitOptions | undefined,
): Steps<VmDescription> {
  const limits = limitsOf(options);
  const bad = (message: string, cause?: unknown): FormatError =>
    new FormatError('E_VMDESC', message, { offset: offset + HEADER, path: PATH, cause });
  if (json.length > limits.vmdescBytes) throw tooLong(limits, offset, json.length);
  let value: OrderedJson;
  try {
    const { vmdescDepth: depth, vmdescValues: values } = limits;
    value = yield* parseOrderedJson(json, { depth, values });
  } catch (error) {
    if (!(error instanceof OrderedJsonError)) throw error;
    if (error.exceeds !== undefined) {
      const limit = error.exceeds === 'depth' ? 'vmdescDepth' : 'vmdescValues';
      throw exceeded(limits, limit, error.message, { offset: offset + HEADER, path: PATH });
    }
    throw bad(`it is not usable JSON (${error.message})`, error);
  }
  const list = value instanceof OrderedObject ? value.get('devices') : undefined;
  if (!(value instanceof OrderedObject) || !Array.isArray(list)) {
    throw bad("it has no list 'devices'");
  }
  const states = new StateParser();
  const devices: DeviceDescription[] = [];
  for (const [i, device] of list.entries()) {
    const name = device instanceof OrderedObject ? device.get('name') : undefined;
    if (!(device instanceof OrderedObject) || typeof name !== 'string') {
      throw bad(`devices[${i}] has no name`);
    }
    const instance = device.get('instance_id');
    const state = yield* states.state(device);
    devices.push({
      name,
      instance: typeof instance === 'number' ? instance : 0,
      payloadLength: state === undefined ? undefined : yield* measure(state),
      state,
    });
  }
  const pageSize = value.get('page_size');
  return {
    offset,
    length: json.length,
    pageSize: typeof pageSize === 'number' ? pageSize : undefined,
    devices,
  };
}
