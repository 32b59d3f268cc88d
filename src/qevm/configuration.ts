import type { ByteReader } from '../bytes/reader.js';
import { UnsupportedError } from '../errors.js';
import { exceeded } from '../limits.js';
import { type Configuration, ELEMENT } from './elements.js';

const PREFIX = 'configuration/';

/**
 * Whether streams of this machine type have no configuration element and no footers
 * (hw/core/machine.c hw_compat_2_3, QEMU 2.6 to 8.1; pseries begins with 2.1).
 */
export function lacksConfiguration(machine: string): boolean {
  return /^pseries-2\.[1-3]$/.test(machine);
}

/**
 * Reads the configuration element from its type byte on, with its subsections
 * (migration/savevm.c vmstate_configuration, QEMU 2.4 and later).
 * @throws UnsupportedError `E_CONFIGURATION`; FormatError `E_TRUNCATED`; LimitError
 */
export async function readConfiguration(reader: ByteReader): Promise<Configuration> {
  const offset = reader.offset;
  await reader.ensure(5, 'the configuration');
  reader.pos += 1;
  const length = reader.u32();
  if (length > reader.limits.machineBytes) {
    throw exceeded(reader.limits, 'machineBytes', 'the machine type name is too long', {
      offset: offset + 1,
      path: 'configuration / name',
      actual: length,
    });
  }
  await reader.ensure(length, 'the machine type name');
  const machine = text(reader.take(length));
  let capabilities: string[] = [];
  let targetPageBits: number | undefined;
  let uuid: string | undefined;
  for (let name = await nextSubsection(reader); name; name = await nextSubsection(reader)) {
    const at = reader.offset;
    reader.pos += 2 + PREFIX.length + name.length + 4;
    switch (name) {
      case 'capabilities':
        capabilities = await readCapabilities(reader);
        break;
      case 'target-page-bits':
        await reader.ensure(4, 'configuration/target-page-bits');
        targetPageBits = reader.u32();
        break;
      case 'uuid':
        await reader.ensure(16, 'configuration/uuid');
        uuid = formatUuid(reader.take(16));
        break;
      default:
        throw new UnsupportedError('E_CONFIGURATION', 'an unknown subsection has no known length', {
          offset: at,
          path: 'configuration',
          expected: 'capabilities, target-page-bits or uuid',
          actual: name,
        });
    }
  }
  return { offset, length: reader.offset - offset, machine, capabilities, targetPageBits, uuid };
}

/**
 * The machine type as the configuration element has it behind its type byte: u32 length, name.
 */
export function encodeMachineName(machine: string): Uint8Array {
  const name = Buffer.from(machine, 'latin1');
  const bytes = Buffer.alloc(4 + name.length);
  bytes.writeUInt32BE(name.length);
  name.copy(bytes, 4);
  return bytes;
}

/** The name, without its prefix, of the subsection that stands next, which is not taken yet. */
async function nextSubsection(reader: ByteReader): Promise<string | undefined> {
  if (!(await reader.tryEnsure(2)) || reader.peek() !== ELEMENT.SUBSECTION) return undefined;
  const length = reader.peek(1);
  if (!(await reader.tryEnsure(2 + length + 4))) return undefined;
  const name = text(reader.buffer.subarray(reader.pos + 2, reader.pos + 2 + length));
  return name.startsWith(PREFIX) ? name.slice(PREFIX.length) : undefined;
}

async function readCapabilities(reader: ByteReader): Promise<string[]> {
  await reader.ensure(4, 'configuration/capabilities');
  const offset = reader.offset;
  const count = reader.u32();
  if (count > reader.limits.capabilities) {
    throw exceeded(reader.limits, 'capabilities', 'too many capabilities', {
      offset,
      path: 'configuration/capabilities',
      actual: count,
    });
  }
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    await reader.ensure(1, 'the name of a capability');
    const length = reader.u8();
    await reader.ensure(length, 'the name of a capability');
    names.push(text(reader.take(length)));
  }
  return names;
}

/** Names are ASCII in practice; other bytes must not turn into something else. */
export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  return [8, 12, 16, 20]
    .map((end, i) => hex.slice([0, 8, 12, 16][i], end))
    .concat(hex.slice(20))
    .join('-');
}
