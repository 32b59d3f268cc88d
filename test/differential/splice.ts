import { BufferSource, readStream } from 'spapr-htab';
import { str8, u16, u32 } from '../helpers/stream.js';

/** One chunk, whose header need not tell the truth. */
export interface Chunk {
  index: number;
  nValid: number;
  nInvalid: number;
  entries: Buffer[];
}

/** A payload of `spapr/htab`: its first word, chunks, and how many end marks. */
export interface HtabPayload {
  word: number;
  chunks: Chunk[];
  marks: number;
}

export const TYPE = { START: 1, PART: 2, END: 3, FULL: 4 } as const;

/** An element of the stream with such a payload. */
export interface HtabElement {
  type: number;
  id: number;
  /** Of START and FULL alone. */
  name: string;
  instance: number;
  version: number;
  payload: HtabPayload;
  footer: Buffer;
  /** What stands there in place of all that. */
  raw?: Buffer;
}

/** Where elements of `spapr/htab` stand: where QEMU puts START, PART and END, and behind the devices. */
export const PLACES = ['start', 'part', 'end', 'late'] as const;
export type Place = (typeof PLACES)[number];

/** A stream whose elements of `spapr/htab` are to be chosen. */
export interface Spliced {
  readonly id: number;
  readonly elements: Record<Place, HtabElement[]>;
  /** Between the end mark of the stream and its vmdescription, and behind that. */
  afterEnd: Buffer;
  afterAll: Buffer;
  /** Bytes that are left out at the end of the file. */
  cut: number;
  /** A bit that is turned: how far into the bytes of an element, 0 to 1. */
  flips: { place: Place; element: number; at: number; bit: number }[];
}

const word = (value: number): Buffer => u32(value >>> 0);

export function encodeChunk({ index, nValid, nInvalid, entries }: Chunk): Buffer {
  return Buffer.concat([word(index), u16(nValid & 0xffff), u16(nInvalid & 0xffff), ...entries]);
}

export function encodePayload({ word: first, chunks, marks }: HtabPayload): Buffer {
  return Buffer.concat([word(first), ...chunks.map(encodeChunk), Buffer.alloc(8 * marks)]);
}

export function encodeElement(element: HtabElement): Buffer {
  if (element.raw !== undefined) return element.raw;
  const { type, id, name, instance, version, payload, footer } = element;
  const named = type === TYPE.START || type === TYPE.FULL;
  return Buffer.concat([
    Buffer.of(type),
    word(id),
    ...(named ? [str8(name), word(instance), word(version)] : []),
    encodePayload(payload),
    footer,
  ]);
}

/** The rest of a stream, cut where elements of `spapr/htab` can stand. */
export class Frame {
  private constructor(
    /** Section id of `spapr/htab`. */
    readonly id: number,
    /** Section id of `ram`. */
    readonly ramId: number,
    /** Before each place, before the end mark's successor, and behind the vmdescription. */
    private readonly pieces: Record<Place | 'mark' | 'vmdesc', Buffer>,
  ) {}

  /** Of a stream of QEMU that has one START, one PART and one END. */
  static async of(stream: Buffer): Promise<Frame> {
    const cuts: [name: Place, from: number, to: number][] = [];
    let id = -1;
    let ramId = -1;
    let eof = -1;
    for await (const event of readStream(new BufferSource(stream))) {
      if (event.type === 'eof') eof = event.offset;
      if (event.type !== 'section-end') continue;
      if (event.section.name === 'ram') ramId = event.section.id;
      if (event.section.name !== 'spapr/htab' || event.kind === 'full') continue;
      id = event.section.id;
      const footer = event.footer ? 5 : 0;
      cuts.push([event.kind, event.offset, event.payloadOffset + event.payloadLength + footer]);
    }
    if (cuts.map(([kind]) => kind).join() !== 'start,part,end') {
      throw new Error(`the stream has other parts than expected: ${cuts.join(' ')}`);
    }
    const pieces: Record<string, Buffer> = {};
    let at = 0;
    for (const [kind, from, to] of cuts) {
      pieces[kind] = stream.subarray(at, from);
      at = to;
    }
    pieces.late = stream.subarray(at, eof);
    pieces.mark = stream.subarray(eof, eof + 1);
    pieces.vmdesc = stream.subarray(eof + 1);
    return new Frame(id, ramId, pieces as Record<Place | 'mark' | 'vmdesc', Buffer>);
  }

  /** The whole file. */
  put({ elements, flips, afterEnd, afterAll, cut }: Spliced): Buffer {
    const parts: Buffer[] = [];
    for (const place of PLACES) {
      parts.push(this.pieces[place]);
      for (const [i, element] of elements[place].entries()) {
        let bytes = encodeElement(element);
        for (const flip of flips) {
          if (flip.place !== place || flip.element !== i || bytes.length === 0) continue;
          bytes = Buffer.from(bytes);
          const at = Math.floor(flip.at * bytes.length);
          bytes[at] = (bytes[at] ?? 0) ^ (1 << flip.bit);
        }
        parts.push(bytes);
      }
    }
    parts.push(this.pieces.mark, afterEnd, this.pieces.vmdesc, afterAll);
    const whole = Buffer.concat(parts);
    return whole.subarray(0, Math.max(0, whole.length - cut));
  }

  /** Bytes from the end of the elements at that place to the end of the file, without `after…`. */
  behind(place: Place): number {
    const later = PLACES.slice(PLACES.indexOf(place) + 1).map((name) => this.pieces[name].length);
    return [...later, this.pieces.mark.length, this.pieces.vmdesc.length].reduce(
      (a, b) => a + b,
      0,
    );
  }
}
