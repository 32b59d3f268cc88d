import { readFully } from '../bytes/read.js';
import type { ByteSink } from '../bytes/sink.js';
import type { ByteSource } from '../bytes/source.js';
import { throwIfAborted, UnsupportedError } from '../errors.js';
import type { HtabItem, HtabItems } from '../htab/items.js';
import { SECTION_NAME } from '../htab/section.js';
import { Tally } from '../htab/tally.js';
import { hiddenBehind, misplacedPart } from '../qevm/faults.js';
import type { StreamInfo } from '../snapshot/describe.js';
import type { Patch } from './patch.js';
import { nextPayload, type PayloadPlace } from './payloads.js';

/**
 * Where a stream has the payloads of `spapr/htab`: START, then every PART and the END.
 * @throws UnsupportedError `E_NO_SECTION`, `E_SECTION_LENGTH`; FormatError `E_SECTION`
 */
export function placesOf(info: StreamInfo): readonly PayloadPlace[] {
  const [section, another] = info.sections.filter(({ name }) => name === SECTION_NAME);
  if (section === undefined) {
    throw new UnsupportedError(
      'E_NO_SECTION',
      `the stream has no section ${SECTION_NAME}: it is not of a pseries guest`,
    );
  }
  if (another !== undefined) throw misplacedPart(SECTION_NAME, 'start', another.offset);
  for (const [i, part] of section.parts.entries()) {
    if ((i === 0) !== (part.kind === 'start')) {
      throw misplacedPart(SECTION_NAME, part.kind, part.offset);
    }
  }
  // Without an end mark the walk stopped at something opaque.
  if (info.eof === undefined && section.parts.at(-1)?.kind !== 'end') {
    throw hiddenBehind('the HPT', info.opaque?.name ?? '', info.opaque?.offset ?? 0);
  }
  return section.parts;
}

/** The patches that put new payloads in. Disposed of, it ends what the items come from. */
export class HptPatches implements AsyncDisposable {
  readonly tally = new Tally();
  readonly #items: AsyncIterator<HtabItem>;
  readonly #places: readonly PayloadPlace[];

  constructor(
    items: HtabItems,
    places: readonly PayloadPlace[],
    readonly signal?: AbortSignal,
  ) {
    this.#items = this.tally.count(items)[Symbol.asyncIterator]();
    this.#places = places;
  }

  /** One for each payload; the items are pulled while they are written, in order, once. */
  get patches(): Patch[] {
    return this.#places.map(({ payloadOffset, payloadLength }, i) => ({
      from: payloadOffset,
      to: payloadOffset + payloadLength,
      write: (sink) => this.#write(sink, i === this.#places.length - 1),
    }));
  }

  async #write(sink: ByteSink, last: boolean): Promise<void> {
    for await (const piece of nextPayload(this.#items)) {
      throwIfAborted(this.signal);
      await sink.append(piece);
      this.tally.bytes += piece.length;
    }
    // Where they come from tells at its end alone that it was read as it is.
    if (last)
      for (let next = await this.#items.next(); !next.done; next = await this.#items.next());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#items.return?.();
  }
}

/**
 * Whether the new payloads are the ones that the stream has, byte for byte. Reads forward, and only
 * to the first difference.
 */
export async function samePayloads(
  items: HtabItems,
  source: ByteSource,
  places: readonly PayloadPlace[],
  signal?: AbortSignal,
): Promise<boolean> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    for (const { payloadOffset, payloadLength } of places) {
      let at = 0;
      for await (const piece of nextPayload(iterator)) {
        throwIfAborted(signal);
        if (at + piece.length > payloadLength) return false;
        const there = Buffer.alloc(piece.length);
        await readFully(source, there, payloadOffset + at, SECTION_NAME);
        if (Buffer.compare(there, piece) !== 0) return false;
        at += piece.length;
      }
      if (at !== payloadLength) return false;
    }
    return true;
  } finally {
    await iterator.return?.();
  }
}
