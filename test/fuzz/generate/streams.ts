import fc from 'fast-check';
import { makeLibvirt } from '../../container/make-libvirt.js';
import { anyDevice } from '../../devices/any-device.js';
import type { EncodedState } from '../../devices/writer.js';
import { vmdesc } from '../../devices/writer.js';
import { configuration, full, header, u32 } from '../../helpers/stream.js';
import { guestWith } from '../../rewrite/support.js';
import type { Valid } from '../target.js';
import { payloads } from './blocks.js';

/** Guests with an HPT. Without footers nothing but the description tells the length of a device. */
export const guestRecipes = fc
  .record({
    machine: fc.constantFrom('pseries-7.2', 'pseries-2.12-sxxm'),
    footers: fc.boolean(),
    vmdesc: fc.boolean(),
    commands: fc.boolean(),
    early: fc.boolean(),
    ended: fc.boolean(),
    htab: payloads,
  })
  .map((recipe) => ({ ...recipe, vmdesc: recipe.vmdesc || !recipe.footers }));

/** Streams that can be read from a pipe as well. */
export const guests: fc.Arbitrary<Valid> = guestRecipes.map((recipe) => ({
  bytes: guestWith({ ...recipe, footers: true }),
}));

/** Streams of one device or more, of any shape, with their description. */
export const deviceStreams: fc.Arbitrary<Valid> = fc
  .array(anyDevice, { minLength: 1, maxLength: 3 })
  .map((devices) => ({ bytes: streamOf(devices) }));

function streamOf(devices: readonly EncodedState[]): Buffer {
  const name = (i: number): string => `dev${i}`;
  const json = vmdesc(devices.map((device, i) => ({ name: name(i), json: device.json })));
  return Buffer.concat([
    header(),
    configuration('pseries-7.2'),
    ...devices.map((device, i) =>
      full(i, name(i), device.version, device.bytes, { footers: true }),
    ),
    Buffer.of(0, 6),
    u32(json.length),
    json,
  ]);
}

/** Images as libvirt writes them, the stream as it is. */
export const libvirtImages: fc.Arbitrary<Valid> = fc
  .record({
    stream: guests,
    xml: fc.constantFrom(
      '<domain type="kvm"/>',
      '<domain><os><type machine="pseries-7.2">hvm</type></os></domain>',
    ),
    cookie: fc.option(fc.constant('<cookie/>'), { nil: undefined }),
    padding: fc.nat(100),
    byteOrder: fc.constantFrom('little' as const, 'big' as const),
    magic: fc.constantFrom('LibvirtQemudSave', 'LibvirtQemudPart'),
  })
  .map(({ stream, cookie, ...recipe }) => ({
    bytes: makeLibvirt({ ...recipe, ...(cookie && { cookie }), stream: stream.bytes }),
  }));
