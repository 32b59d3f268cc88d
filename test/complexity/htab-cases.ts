import {
  convert,
  type HptFormat,
  IterableSource,
  inspect,
  openHpt,
  rehash,
  verify,
} from 'spapr-htab';
import { plainEntry } from '../helpers/hash.js';
import { chunk, hpte, u32 } from '../helpers/stream.js';
import { type Case, fileOf, sizesTo, times } from './case.js';

const MARK = Buffer.alloc(8);
const ZERO = Buffer.alloc(4);

/** A `section` file: the order, and one part of blocks. */
function* section(order: number, blocks: Iterable<Uint8Array>): Generator<Uint8Array> {
  yield u32(order);
  yield ZERO;
  yield* blocks;
  yield MARK;
}

/** Blocks by number, for a table of 2^20 slots or as said. */
interface Shape {
  readonly name: string;
  readonly order: number;
  readonly block: (i: number, size: number) => Uint8Array;
}

const ONE = hpte(7);
const PAIR = [hpte(1), hpte(2)];
const TEN = Array.from({ length: 10 }, (_, i) => hpte(i));
/** Far apart, each on a page of its own for long, in no order. */
const scattered = (i: number): number => (Math.imul(i, 0x9e3779b1) >>> 0) % (2 ** 32 - 16);

const SHAPES = {
  overlapping: {
    name: 'overlapping runs',
    order: 24,
    block: (i) => chunk((i * 7) % 5000, TEN, 30),
  },
  descending: {
    name: 'descending indexes',
    order: 30,
    block: (i, size) => chunk(3 * (size - i), [ONE]),
  },
  alternating: {
    name: 'alternating valid and invalid',
    order: 30,
    block: (i) => chunk(2 * i + 1, [ONE], 1),
  },
  filledAndEmptied: {
    name: 'one slot filled, 65535 emptied',
    order: 22,
    block: (i) => chunk((i * 31) % 100, PAIR, 65535),
  },
  scattered: {
    name: 'scattered over order 36',
    order: 36,
    block: (i) => chunk(scattered(i), [ONE]),
  },
  nothing: { name: 'blocks of nothing', order: 30, block: (i) => chunk(1 + i, []) },
} satisfies Record<string, Shape>;

type Verb = (path: string, folder: string) => Promise<unknown>;

const to =
  (format: HptFormat): Verb =>
  (path, folder) =>
    convert(path, `${folder}/output`, { to: format, force: true });

const VERBS = {
  table: async (path) => {
    await using hpt = await openHpt(path);
    return await hpt.table();
  },
  verify: (path) => verify(path),
  info: (path) => inspect(path),
  kernel: to('kernel'),
  archive: to('archive'),
  image: to('image'),
  canonical: async (path, folder) =>
    convert(path, `${folder}/output`, { to: 'section', canonical: true, force: true }),
} satisfies Record<string, Verb>;

function shaped(verb: keyof typeof VERBS, shape: Shape, blocks: number): Case {
  return {
    name: `${verb}: ${shape.name}`,
    unit: 'blocks',
    sizes: sizesTo(blocks),
    prepare(size, folder) {
      const path = fileOf(
        folder,
        section(
          shape.order,
          times(size, (i) => shape.block(i, size)),
        ),
      );
      return async () => void (await VERBS[verb](path, folder));
    },
  };
}

/** Empty parts, one after another. */
function* emptyParts(count: number): Generator<Uint8Array> {
  yield u32(20);
  const part = Buffer.concat([ZERO, MARK]);
  for (let i = 0; i < count; i++) yield part;
}

function parts(name: string, count: number, run: Verb): Case {
  return {
    name: `${name}: empty parts`,
    unit: 'parts',
    sizes: sizesTo(count),
    prepare(size, folder) {
      const path = fileOf(folder, emptyParts(size));
      return async () => void (await run(path, folder));
    },
  };
}

/** Orders after another, each begins a table anew. */
const orders: Case = {
  name: 'table: order words, a block behind each',
  unit: 'orders',
  sizes: sizesTo(8000),
  prepare(size, folder) {
    const one = Buffer.concat([u32(20), ZERO, chunk(100, [ONE], 3), MARK]);
    const path = fileOf(
      folder,
      times(size, () => one),
    );
    return async () => void (await VERBS.table(path));
  },
};

/** All of one group of slots, where the table has become smaller. */
const crowded: Case = {
  name: 'rehash: entries that meet in one PTEG',
  unit: 'entries',
  sizes: sizesTo(64_000),
  prepare(size, folder) {
    const order = 30;
    const groups = 2 ** (order - 7);
    const blocks = times(size, (i) => {
      // The lowest 11 bits of the hash are the same in all, so all meet where few groups are left.
      const vsid = BigInt(Math.floor(i / 8) * 2048 + 5);
      const page = { b: 0, vsid, offset: 0n, base: 12, actual: 12, secondary: false } as const;
      const pteg = Number(vsid) % groups;
      return chunk(pteg * 8 + (i % 8), [plainEntry(page)]);
    });
    const path = fileOf(folder, section(order, blocks));
    return async () => {
      await using hpt = await openHpt(path);
      await rehash(await hpt.table(), 18);
    };
  },
};

/** One byte at a time. */
const byteByByte: Case = {
  name: 'table: a source of one byte at a time',
  unit: 'bytes',
  sizes: sizesTo(400_000),
  prepare(size) {
    const blocks = times(Math.floor(size / 24), (i) => chunk(1 + 3 * i, [ONE]));
    const bytes = Buffer.concat([...section(30, blocks)]);
    return async () => {
      const pieces = function* () {
        for (let at = 0; at < bytes.length; at++) yield bytes.subarray(at, at + 1);
      };
      await using hpt = await openHpt(new IterableSource(pieces()));
      await hpt.table();
    };
  },
};

export const htabCases: readonly Case[] = [
  shaped('table', SHAPES.overlapping, 160_000),
  shaped('table', SHAPES.descending, 400_000),
  shaped('table', SHAPES.alternating, 400_000),
  shaped('table', SHAPES.filledAndEmptied, 8000),
  shaped('table', SHAPES.scattered, 100_000),
  shaped('verify', SHAPES.scattered, 100_000),
  shaped('verify', SHAPES.alternating, 200_000),
  shaped('info', SHAPES.overlapping, 300_000),
  shaped('info', SHAPES.descending, 600_000),
  shaped('info', SHAPES.scattered, 300_000),
  shaped('info', SHAPES.nothing, 2_000_000),
  shaped('canonical', SHAPES.descending, 200_000),
  shaped('canonical', SHAPES.scattered, 60_000),
  shaped('archive', SHAPES.nothing, 300_000),
  shaped('archive', SHAPES.alternating, 200_000),
  shaped('kernel', SHAPES.nothing, 4_000_000),
  shaped('image', SHAPES.scattered, 4000),
  parts('info', 120_000, VERBS.info),
  parts('table', 120_000, VERBS.table),
  parts('archive', 100_000, VERBS.archive),
  parts('kernel', 100_000, VERBS.kernel),
  orders,
  crowded,
  byteByByte,
];
