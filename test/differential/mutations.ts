import { u32 } from '../helpers/stream.js';
import { chunk, type Draw, entries, footer, orderWord } from './sound.js';
import {
  type Chunk,
  encodeElement,
  encodePayload,
  type Frame,
  type HtabElement,
  type HtabPayload,
  PLACES,
  type Place,
  type Spliced,
  TYPE,
} from './splice.js';

/** What is done to a sound stream. */
export interface Mutation {
  readonly name: string;
  readonly apply: (stream: Spliced, draw: Draw, frame: Frame) => void;
}

const parts = ({ elements }: Spliced): HtabElement[] => [...elements.part, ...elements.end];
const all = ({ elements }: Spliced): HtabElement[] => PLACES.flatMap((place) => elements[place]);
const orderOf = ({ elements }: Spliced): number => elements.start[0]?.payload.word ?? 18;
const slotsOf = (stream: Spliced): number => 2 ** (orderOf(stream) - 4);

/** One of them; where another mutation has left none, one that is not in the stream. */
function some(elements: readonly HtabElement[], stream: Spliced, draw: Draw): HtabElement {
  if (elements.length > 0) return draw.pick(elements);
  const spare = { type: TYPE.PART, id: stream.id, name: '', instance: 0, version: 1 };
  return { ...spare, payload: { word: 0, chunks: [], marks: 1 }, footer: footer(stream.id) };
}

const somePart = (stream: Spliced, draw: Draw): HtabElement => some(parts(stream), stream, draw);
const someElement = (stream: Spliced, draw: Draw): HtabElement => some(all(stream), stream, draw);

/** A chunk of a part, which is made where there is none. */
function someChunk(stream: Spliced, draw: Draw): Chunk {
  const { chunks } = somePart(stream, draw).payload;
  if (chunks.length === 0 || draw.chance(3)) chunks.push(chunk(draw, slotsOf(stream)));
  return draw.pick(chunks);
}

/** A chunk of that shape at the end of a part. */
function add(stream: Spliced, draw: Draw, index: number, nValid: number, nInvalid: number): void {
  const { chunks } = somePart(stream, draw).payload;
  chunks.push({ index, nValid, nInvalid, entries: entries(draw, nValid) });
}

const LITTLE = (value: Chunk): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value.index);
  bytes.writeUInt16LE(value.nValid, 4);
  bytes.writeUInt16LE(value.nInvalid, 6);
  return Buffer.concat([bytes, ...value.entries]);
};

/** Payload bytes of a part with little-endian chunk headers. */
function littleEndian(payload: HtabPayload): Buffer {
  return Buffer.concat([u32(0), ...payload.chunks.map(LITTLE), Buffer.alloc(8)]);
}

function setRaw(element: HtabElement, payload: Buffer): void {
  const whole = encodeElement(element);
  const length = encodePayload(element.payload).length;
  const head = whole.subarray(0, whole.length - element.footer.length - length);
  element.raw = Buffer.concat([head, payload, element.footer]);
}

/** Orders around what tables have, powers of two, and what 32 bits hold. */
const ORDERS = [
  1, 3, 4, 5, 7, 10, 17, 18, 19, 22, 24, 34, 40, 46, 47, 48, 63, 64, 68, 82, 85, 110, 128, 256,
  0x8000, 0x10000, 0x10012, 0x12000000, 0x7fffffff, 0x80000000, 0x80000012, 0xfffffffe,
];

export const MUTATIONS: readonly Mutation[] = [
  { name: 'none', apply() {} },
  {
    name: 'index',
    apply(stream, draw) {
      const one = someChunk(stream, draw);
      const slots = slotsOf(stream);
      const count = one.nValid + one.nInvalid;
      const to = [0, slots - count, slots - count + 1, slots, slots - 1, 2 ** 16, 2 ** 31];
      one.index = draw.pick([...to, 2 ** 31 + 1, 2 ** 32 - 1, 2 ** 32 - slots]);
    },
  },
  {
    name: 'sum wraps at 2^32',
    apply(stream, draw) {
      const nValid = draw.pick([0, 0, 1, 2, 16, 200]);
      const nInvalid = draw.pick([0, 1, 2, 65535]);
      const index = 2 ** 32 - Math.max(1, draw.below(nValid + nInvalid + 2));
      add(stream, draw, index, nValid, nInvalid);
    },
  },
  {
    name: 'sum around the size',
    apply(stream, draw) {
      const slots = slotsOf(stream);
      const nValid = draw.below(4);
      const nInvalid = draw.below(4);
      add(stream, draw, slots - nValid - nInvalid + draw.below(3) - 1, nValid, nInvalid);
    },
  },
  {
    name: 'sum around 2^16',
    apply(stream, draw) {
      const nInvalid = draw.pick([65535, 65534, 32768]);
      add(stream, draw, draw.pick([0, 1, 2, 2 ** 16 - nInvalid]), draw.below(3), nInvalid);
    },
  },
  {
    name: 'nValid',
    apply(stream, draw) {
      const one = someChunk(stream, draw);
      one.nValid = draw.pick([0, 1, one.nValid + 1, Math.max(0, one.nValid - 1), 255, 65535]);
    },
  },
  {
    name: 'nInvalid',
    apply(stream, draw) {
      const one = someChunk(stream, draw);
      one.nInvalid = draw.pick([0, 1, one.nInvalid + 1, 255, 8000, 65535]);
    },
  },
  {
    name: 'a chunk of nothing',
    apply(stream, draw) {
      const slots = slotsOf(stream);
      add(stream, draw, draw.pick([1, 5, slots - 1, slots, slots + 1, 2 ** 32 - 1]), 0, 0);
    },
  },
  {
    name: 'overlapping and descending',
    apply(stream, draw) {
      for (let i = 0; i < 8; i++) add(stream, draw, 40 - 4 * i + draw.below(3), draw.below(9), 6);
    },
  },
  {
    name: 'entries without V or with software bits',
    apply(stream, draw) {
      const one = someChunk(stream, draw);
      for (const entry of one.entries) {
        const low = entry[7] ?? 0;
        entry[7] = draw.pick([low & ~1, low | 0x20, low | 0x40, low | 0x60, low & ~1 & 0xff]);
        if (draw.chance(3)) entry[8] = (entry[8] ?? 0) | 0x40;
        if (draw.chance(4)) entry.fill(draw.pick([0, 0xff]));
      }
    },
  },
  {
    name: 'entries of random bits',
    apply(stream, draw) {
      for (const entry of someChunk(stream, draw).entries) {
        for (let i = 0; i < 16; i++) entry[i] = draw.below(256);
      }
    },
  },
  {
    name: 'no end mark',
    apply(stream, draw) {
      somePart(stream, draw).payload.marks = 0;
    },
  },
  {
    name: 'two end marks',
    apply(stream, draw) {
      somePart(stream, draw).payload.marks = 2;
    },
  },
  {
    name: 'a part cut short',
    apply(stream, draw) {
      const element = somePart(stream, draw);
      const payload = encodePayload(element.payload);
      setRaw(element, payload.subarray(0, draw.below(payload.length)));
    },
  },
  {
    name: 'the file ends in an element',
    apply(stream, draw, frame) {
      const place = draw.pick(['start', 'part', 'end'] as const);
      const length = stream.elements[place].reduce((sum, e) => sum + encodeElement(e).length, 0);
      const later = PLACES.slice(PLACES.indexOf(place) + 1).flatMap((p) => stream.elements[p]);
      const behind = later.reduce((sum, e) => sum + encodeElement(e).length, frame.behind(place));
      stream.cut = behind + draw.below(length);
    },
  },
  {
    name: 'the file ends in the devices or the description',
    apply(stream, draw, frame) {
      stream.cut = draw.pick([1, 100, 4000, 6600, frame.behind('late'), frame.behind('end') - 40]);
    },
  },
  {
    name: 'a second full pass',
    apply(stream, draw) {
      const again = stream.elements.part.map((element) => structuredCloneOf(element));
      for (const one of again.flatMap(({ payload }) => payload.chunks)) {
        if (draw.chance(2)) one.entries = entries(draw, one.nValid);
      }
      stream.elements[draw.pick(['part', 'end'] as const)].unshift(...again);
    },
  },
  {
    name: 'order',
    apply(stream, draw) {
      const start = stream.elements.start[0];
      if (start !== undefined) start.payload.word = draw.pick(ORDERS);
      // Without blocks the order alone decides.
      if (draw.chance(2)) for (const { payload } of parts(stream)) payload.chunks = [];
    },
  },
  {
    name: 'order of another table',
    apply(stream, draw) {
      const start = stream.elements.start[0];
      if (start !== undefined) start.payload.word = orderOf(stream) + draw.pick([-3, -2, -1, 1, 2]);
    },
  },
  {
    name: 'order in a part',
    apply(stream, draw) {
      const element = somePart(stream, draw);
      element.payload = orderWord(draw.pick([18, 19, 21, orderOf(stream), ...ORDERS]));
    },
  },
  {
    name: 'START of zero',
    apply(stream, draw) {
      const start = stream.elements.start[0];
      if (start === undefined) return;
      start.payload = draw.chance(2)
        ? { word: 0, chunks: [chunk(draw, 2 ** 14)], marks: 1 }
        : { word: 0, chunks: [], marks: draw.below(2) };
    },
  },
  {
    name: 'no HPT',
    apply(stream) {
      for (const element of all(stream)) element.payload = orderWord(0xffffffff);
    },
  },
  {
    name: 'no HPT at first, parts with blocks or none',
    apply(stream, draw) {
      const start = stream.elements.start[0];
      if (start !== undefined) start.payload = orderWord(0xffffffff);
      if (draw.chance(2)) for (const { payload } of parts(stream)) payload.chunks = [];
    },
  },
  {
    name: 'no HPT in a part',
    apply(stream, draw) {
      somePart(stream, draw).payload = orderWord(0xffffffff);
    },
  },
  {
    name: 'a table again after no HPT',
    apply(stream) {
      const [start] = stream.elements.start;
      const [part] = stream.elements.part;
      if (start === undefined || part === undefined) return;
      const again = structuredCloneOf(part);
      again.payload = orderWord(start.payload.word);
      start.payload = orderWord(0xffffffff);
      stream.elements.part.unshift(again);
    },
  },
  {
    name: 'type',
    apply(stream, draw) {
      const element = someElement(stream, draw);
      element.type = draw.pick([TYPE.START, TYPE.PART, TYPE.END, TYPE.FULL]);
    },
  },
  {
    name: 'type that is none',
    apply(stream, draw) {
      someElement(stream, draw).type = draw.pick([5, 6, 7, 9, 0x7e, 0xff]);
    },
  },
  {
    name: 'left out',
    apply(stream, draw) {
      const place = draw.pick(['start', 'part', 'end'] as const);
      stream.elements[place] = [];
    },
  },
  {
    name: 'no section at all',
    apply(stream) {
      for (const place of PLACES) stream.elements[place] = [];
    },
  },
  {
    name: 'elsewhere',
    apply(stream, draw) {
      const from = draw.pick(['start', 'part', 'end'] as const);
      const to = draw.pick(PLACES);
      const moved = stream.elements[from].splice(0);
      if (draw.chance(2)) stream.elements[to].push(...moved);
      else stream.elements[to].unshift(...moved);
    },
  },
  {
    name: 'twice',
    apply(stream, draw) {
      const from = draw.pick(['start', 'part', 'end'] as const);
      const to = draw.pick(PLACES);
      stream.elements[to].push(...stream.elements[from].map((one) => structuredCloneOf(one)));
    },
  },
  {
    name: 'version',
    apply: (stream, draw) => void setStart(stream, { version: draw.pick([0, 2, 0xffffffff]) }),
  },
  {
    name: 'instance',
    apply: (stream, draw) => void setStart(stream, { instance: draw.pick([1, 0xffffffff]) }),
  },
  {
    name: 'name',
    apply: (stream, draw) =>
      void setStart(stream, {
        name: draw.pick(['spapr/hta', 'spapr/htab\0', 'Spapr/htab', '', 'x/y']),
      }),
  },
  {
    name: 'id of one element',
    apply(stream, draw, frame) {
      const element = someElement(stream, draw);
      element.id = draw.pick([0, 1, frame.ramId, 9, frame.id + 1, 0xffffffff]);
      if (draw.chance(2)) element.footer = footer(element.id);
    },
  },
  {
    name: 'id of all elements',
    apply(stream, draw, frame) {
      const id = draw.pick([1, 9, frame.ramId, frame.id + 1, 560, 0xffffffff]);
      for (const element of all(stream)) {
        element.id = id;
        element.footer = footer(id);
      }
    },
  },
  {
    name: 'footer',
    apply(stream, draw) {
      const element = someElement(stream, draw);
      const good = element.footer;
      element.footer = draw.pick([
        Buffer.alloc(0),
        good.subarray(0, 4),
        footer(element.id + 1),
        footer(0),
        Buffer.concat([good, good]),
        Buffer.concat([Buffer.of(0x7f), good.subarray(1)]),
        Buffer.concat([good, Buffer.of(0)]),
      ]);
    },
  },
  {
    name: 'no footers',
    apply(stream) {
      for (const element of all(stream)) element.footer = Buffer.alloc(0);
    },
  },
  {
    name: 'bytes behind a part',
    apply(stream, draw) {
      const element = somePart(stream, draw);
      const more = Buffer.alloc(1 + draw.below(20), draw.pick([0, 1, 0xff]));
      setRaw(element, Buffer.concat([encodePayload(element.payload), more]));
    },
  },
  {
    name: 'bytes behind the end mark of the stream',
    apply(stream, draw) {
      stream.afterEnd = Buffer.alloc(1 + draw.below(30), draw.pick([0, 1, 6, 0xff]));
    },
  },
  {
    name: 'bytes behind the file',
    apply(stream, draw) {
      stream.afterAll = Buffer.alloc(1 + draw.below(5000), draw.pick([0, 0x51, 0xff]));
    },
  },
  {
    name: 'little-endian chunk headers',
    apply(stream, draw) {
      for (const element of parts(stream)) {
        if (element.payload.chunks.length === 0) element.payload.chunks = [chunk(draw, 2 ** 14)];
        setRaw(element, littleEndian(element.payload));
      }
    },
  },
  {
    name: 'bit',
    apply(stream, draw) {
      for (let i = 1 + draw.below(2); i > 0; i--) {
        const place = draw.pick(['start', 'part', 'end'] as const satisfies Place[]);
        const element = draw.below(Math.max(1, stream.elements[place].length));
        stream.flips.push({ place, element, at: draw.next(), bit: draw.below(8) });
      }
    },
  },
  {
    name: 'random bytes in a part',
    apply(stream, draw) {
      const element = somePart(stream, draw);
      const bytes = encodePayload(element.payload);
      for (let i = draw.below(6); i >= 0; i--) bytes[draw.below(bytes.length)] = draw.below(256);
      setRaw(element, bytes);
    },
  },
];

function setStart(stream: Spliced, change: Partial<HtabElement>): void {
  for (const start of stream.elements.start) Object.assign(start, change);
}

/** A copy with its own chunks and entries. */
function structuredCloneOf(element: HtabElement): HtabElement {
  const { payload } = element;
  const chunks = payload.chunks.map((one) => ({
    ...one,
    entries: one.entries.map((entry) => Buffer.from(entry)),
  }));
  return { ...element, payload: { ...payload, chunks } };
}
