import { inTurns, type Steps } from '../bytes/pace.js';
import type { ByteSource } from '../bytes/source.js';
import { limitsOf } from '../limits.js';
import type {
  SectionEvent,
  SectionIdentity,
  StreamEvent,
  StreamWarning,
} from '../qevm/elements.js';
import { readStream, type StreamOptions } from '../qevm/stream.js';
import { type DeviceDescription, findVmdesc } from '../qevm/vmdesc.js';
import { decodeDevice } from './decode.js';
import type { DeviceTree } from './node.js';

export interface DescribeDevicesOptions extends StreamOptions {
  /** Told what the walk warns of. Default: nobody. */
  readonly onWarning?: ((warning: StreamWarning) => void) | undefined;
  /** Told every event of the walk; payloads are not to be read there. Default: nobody. */
  readonly onEvent?: ((event: StreamEvent) => void) | undefined;
}

/** A FULL section. Offsets are in the source. */
export interface DeviceReport {
  readonly section: SectionIdentity;
  /** Position of the element's type byte. */
  readonly offset: number;
  readonly payloadOffset: number;
  /** Bytes of the payload. */
  readonly payloadLength: number;
  /** Undefined when it was not decoded; `reason` says why. */
  readonly tree: DeviceTree | undefined;
  readonly reason: 'no description' | 'too large' | undefined;
}

/**
 * Decodes the device sections of a stream, one by one. At most one payload is held at a time; it
 * stays alive as long as its tree. The walk reads the iterable sections as well: give their
 * `walkers`.
 *
 * Devices are not decoded, but reported, when their description is missing (`suppress-vmdesc`,
 * machines before pseries-2.3, sources that cannot seek) or their payload is too large (the limit
 * `deviceBytes`). After an
 * `opaque` section nothing more comes.
 *
 * @throws what {@link readStream} throws
 */
export async function* describeDevices(
  source: ByteSource,
  options: DescribeDevicesOptions = {},
): AsyncGenerator<DeviceReport> {
  const { onWarning, onEvent, signal } = options;
  const limits = limitsOf(options.limits);
  const { found } = await findVmdesc(source, options.start ?? 0, limits, signal);
  const descriptions = new Descriptions();
  await inTurns(descriptions.add(found?.devices ?? []), signal);
  let current: Pick<DeviceReport, 'tree' | 'reason'> | undefined;
  for await (const event of readStream(source, options)) {
    onEvent?.(event);
    if (event.type === 'warning') onWarning?.(event.warning);
    if (event.type === 'section' && event.kind === 'full') {
      const state = descriptions.take(event.section)?.state;
      if (state === undefined) {
        current = { tree: undefined, reason: 'no description' };
        continue;
      }
      const payload = await collect(event, limits.deviceBytes);
      if (payload === undefined) {
        current = { tree: undefined, reason: 'too large' };
        continue;
      }
      const path = event.section.name;
      const tree = decodeDevice(state, payload, { path, limits });
      current = { tree, reason: undefined };
    } else if (event.type === 'section-end' && event.kind === 'full' && current !== undefined) {
      const { section, offset, payloadOffset, payloadLength } = event;
      yield { section, offset, payloadOffset, payloadLength, ...current };
      current = undefined;
    }
  }
}

/** The payload, or undefined if it is larger than that. */
async function collect(event: SectionEvent, limit: number): Promise<Uint8Array | undefined> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of event.bytes()) {
    length += piece.length;
    if (length > limit) return undefined;
    pieces.push(piece);
  }
  const [only] = pieces;
  return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces);
}

/** Descriptions by name and instance. The same may come several times: the next one is the last. */
class Descriptions {
  readonly #byIdentity = new Map<string, DeviceDescription[]>();

  *add(devices: readonly DeviceDescription[]): Steps<void> {
    for (const device of [...devices].reverse()) {
      yield;
      const key = `${device.instance} ${device.name}`;
      const list = this.#byIdentity.get(key);
      if (list === undefined) this.#byIdentity.set(key, [device]);
      else list.push(device);
    }
  }

  take({ instance, name }: SectionIdentity): DeviceDescription | undefined {
    return this.#byIdentity.get(`${instance} ${name}`)?.pop();
  }
}
