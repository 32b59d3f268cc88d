import { hpte, u32 } from '../helpers/stream.js';
import {
  type Chunk,
  type Frame,
  type HtabElement,
  type HtabPayload,
  type Spliced,
  TYPE,
} from './splice.js';

/** Choices that come from a seed. */
export class Draw {
  constructor(readonly next: () => number) {}

  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  pick<T>(list: readonly T[]): T {
    const one = list[this.below(list.length)];
    if (one === undefined) throw new RangeError('nothing to pick from');
    return one;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }
}

export const footer = (id: number): Buffer => Buffer.concat([Buffer.of(0x7e), u32(id)]);

export const orderWord = (order: number): HtabPayload => ({ word: order, chunks: [], marks: 0 });

/** A stream as QEMU could have written it: an order, some parts, an end. */
export function soundStream(frame: Frame, draw: Draw): Spliced {
  const order = draw.pick([18, 18, 19, 20, 21]);
  const slots = 2 ** (order - 4);
  const part = (): HtabPayload => ({
    word: 0,
    chunks: Array.from({ length: draw.below(5) }, () => chunk(draw, slots)),
    marks: 1,
  });
  const element = (type: number, payload: HtabPayload): HtabElement => ({
    type,
    id: frame.id,
    name: 'spapr/htab',
    instance: 0,
    version: 1,
    payload,
    footer: footer(frame.id),
  });
  return {
    id: frame.id,
    elements: {
      start: [element(TYPE.START, orderWord(order))],
      part: Array.from({ length: 1 + draw.below(3) }, () => element(TYPE.PART, part())),
      end: [element(TYPE.END, part())],
      late: [],
    },
    afterEnd: Buffer.alloc(0),
    afterAll: Buffer.alloc(0),
    cut: 0,
    flips: [],
  };
}

export function chunk(draw: Draw, slots: number): Chunk {
  const nValid = draw.chance(4) ? 0 : 1 + draw.below(draw.chance(8) ? 300 : 6);
  const nInvalid = draw.chance(2) ? 0 : draw.below(draw.chance(8) ? 9000 : 20);
  // In few places, so that chunks meet.
  const place = draw.pick([1, 8, 64, 1000, slots - 4000]);
  const index = Math.min(place + draw.below(12), slots - nValid - nInvalid);
  return { index, nValid, nInvalid, entries: entries(draw, nValid) };
}

export function entries(draw: Draw, count: number): Buffer[] {
  return Array.from({ length: count }, () => hpte(draw.below(2 ** 30), draw.pick([1, 3, 0x11, 5])));
}
