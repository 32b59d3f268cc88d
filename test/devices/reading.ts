import { type DecodeDeviceOptions, decodeDevice } from '../../src/devices/decode.js';
import type { DeviceNode, DeviceTree, StateNode } from '../../src/devices/node.js';
import type { StateDescription } from '../../src/qevm/description.js';
import { parseVmdesc } from '../../src/qevm/vmdesc.js';
import { type EncodedState, type Expected, vmdesc } from './writer.js';

/** The state of the only device in that JSON. */
export function describe1(json: string): StateDescription {
  const device = parseVmdesc(vmdesc([{ name: 'dev', json }]), 0).devices[0];
  if (device?.state === undefined) throw new Error('no state');
  return device.state;
}

export function decodeJson(
  json: string,
  payload: Uint8Array,
  options: DecodeDeviceOptions = {},
): DeviceTree {
  return decodeDevice(describe1(json), payload, { path: 'dev', ...options });
}

export function decode(device: EncodedState): DeviceTree {
  return decodeJson(device.json, device.bytes);
}

/** The tree in the form of the writer's expectations. */
export function found(node: StateNode): Expected {
  return {
    vmsd: node.vmsdName,
    version: node.version,
    fields: node.fields.map((field) => [field.name, foundIn(field)]),
    subsections: node.subsections.map(found),
  };
}

function foundIn(node: DeviceNode): Expected {
  switch (node.kind) {
    case 'scalar':
      return node.value;
    case 'scalars':
      return [...node.values];
    case 'bitmap':
      return [...node.words];
    case 'bytes':
      return Buffer.from(node.bytes).toString('hex');
    case 'undecoded':
      return { undecoded: Buffer.from(node.bytes).toString('hex') };
    case 'null':
      return null;
    case 'array':
    case 'list':
      return node.elements.map(foundIn);
    case 'struct':
      return found(node.state);
    case 'tree':
      return node.entries.map(({ key, value }) => [foundIn(key), foundIn(value)]);
  }
}
