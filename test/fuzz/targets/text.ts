import fc from 'fast-check';
import { type ByteSource, parseVmdesc, parseVmstateDump } from 'spapr-htab';
import { described, dumpText, field } from '../../compat/support.js';
import { anyDevice } from '../../devices/any-device.js';
import { vmdesc as writeVmdesc } from '../../devices/writer.js';
import { descriptions } from '../corpus.js';
import { readSome, textOf } from '../digest.js';
import { jsonLayout } from '../layouts/json.js';
import { must, type Target } from '../target.js';

/** The description of device state: JSON with keys that repeat. */
export const vmdesc: Target = {
  name: 'vmdesc',
  variants: ['any'],
  feeds: 'bytes',
  valid: fc
    .array(anyDevice, { maxLength: 4 })
    .map((list) => ({ bytes: writeVmdesc(list.map(({ json }, i) => ({ name: `d${i}`, json }))) })),
  seeds: descriptions,
  layout: jsonLayout,
  // The text is not at the beginning of its file.
  wraps: () => true,
  parse: async (source) => {
    const bytes = await everything(source);
    const description = parseVmdesc(bytes, 100);
    const devices = plainDevices(bytes);
    const names = description.devices.map(({ name }) => name);
    must(devices === undefined || textOf(devices) === textOf(names), 'plain model', () =>
      textOf(names),
    );
    for (const { payloadLength } of description.devices) {
      const told = payloadLength === undefined || Number.isSafeInteger(payloadLength);
      must(told && (payloadLength ?? 0) >= 0, 'size', () => `${payloadLength} bytes of payload`);
    }
    const lengths = description.devices.map(({ payloadLength }) => payloadLength === undefined);
    return {
      value: textOf(description),
      kind: `${new Set(lengths).size} ${Math.ceil(Math.log2(names.length + 1))}`,
    };
  },
};

async function everything(source: ByteSource): Promise<Buffer> {
  await using reading = source;
  return readSome(reading, 0, source.size ?? 0);
}

/** Names of devices as the platform's own parser has them. */
function plainDevices(bytes: Buffer): unknown[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString());
  } catch (error) {
    must(false, 'plain model', () => `JSON.parse refuses it: ${error}`);
  }
  const list = (value as { devices?: { name?: unknown }[] }).devices;
  return list?.map((device) => device.name);
}

const dumpStates = fc.array(
  fc.record({ name: fc.constantFrom('a', 'b/c', 'd'), fields: fc.nat(5), inner: fc.boolean() }),
  { maxLength: 6 },
);

/** What a QEMU prints of its own descriptions. */
export const dump: Target = {
  name: 'dump',
  variants: ['any'],
  feeds: 'bytes',
  valid: dumpStates.map((list) => ({
    bytes: dumpText(
      list.map(({ name, fields, inner }) =>
        described(
          name,
          Array.from({ length: fields }, (_, i) =>
            field(`f${i}`, 4 * i, inner ? { Description: described('s', []) } : {}),
          ),
        ),
      ),
    ),
  })),
  layout: jsonLayout,
  wraps: () => true,
  parse: async (source) => {
    const { machine, classes, counted } = parseVmstateDump(await everything(source));
    return { value: textOf({ machine, classes, counted }), kind: `${counted} ${classes.length}` };
  },
};
