import { writeFileSync } from 'node:fs';
import { BufferSource, type ByteSource, IterableSource, openFile } from 'spapr-htab';
import { Dice } from './dice.js';

/** A way in which the bytes of an input come. */
export interface Feed {
  readonly name: string;
  /** Whether any position can be read at any time. Between the two kinds, results may differ. */
  readonly seekable: boolean;
  /** Whether the native addon is left out. */
  readonly withoutAddon?: boolean;
  /** Longest input that comes this way, in bytes: others would take too long. */
  readonly most: number;
  readonly open: (bytes: Uint8Array, place: FeedPlace) => Promise<ByteSource>;
}

export interface FeedPlace {
  /** A path that may be written. */
  readonly path: string;
  readonly seed: number;
}

const ANY = Number.POSITIVE_INFINITY;
const BYTEWISE = 12 * 1024;

/** A seekable source that gives less than it is asked for. */
class ScantSource extends BufferSource {
  constructor(
    bytes: Uint8Array,
    readonly most: () => number,
  ) {
    super(bytes, '<scant>');
  }

  override async read(target: Uint8Array, position: number): Promise<number> {
    // Later, as a device would.
    await undefined;
    return super.read(target.subarray(0, this.most()), position);
  }
}

/** As the pieces of a pipe, each in memory of its own that is overwritten as soon as it was used. */
function* pieces(bytes: Uint8Array, size: () => number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const piece = Uint8Array.from(bytes.subarray(at, at + size()));
    at += piece.length;
    yield piece;
    piece.fill(0xdb);
  }
}

const sizes = (seed: number): (() => number) => {
  const dice = new Dice(seed);
  return () => 1 + dice.below(dice.chance(0.3) ? 16 : 9000);
};

const fromFile = async (bytes: Uint8Array, { path }: FeedPlace): Promise<ByteSource> => {
  writeFileSync(path, bytes);
  return openFile(path);
};

/** The first of each kind is what the others are compared with. */
export const FEEDS: readonly Feed[] = [
  { name: 'whole', seekable: true, most: ANY, open: async (bytes) => new BufferSource(bytes) },
  {
    name: 'one byte a read',
    seekable: true,
    most: BYTEWISE,
    open: async (bytes) => new ScantSource(bytes, () => 1),
  },
  {
    name: 'reads of any length',
    seekable: true,
    most: ANY,
    open: async (bytes, { seed }) => new ScantSource(bytes, sizes(seed)),
  },
  { name: 'file', seekable: true, most: ANY, open: fromFile },
  { name: 'file, no addon', seekable: true, withoutAddon: true, most: ANY, open: fromFile },
  {
    name: 'pipe',
    seekable: false,
    most: ANY,
    open: async (bytes) => new IterableSource([Uint8Array.from(bytes)], '<pipe>'),
  },
  {
    name: 'pipe, one byte at a time',
    seekable: false,
    most: BYTEWISE,
    open: async (bytes) =>
      new IterableSource(
        pieces(bytes, () => 1),
        '<pipe>',
      ),
  },
  {
    name: 'pipe in pieces',
    seekable: false,
    most: ANY,
    open: async (bytes, { seed }) => new IterableSource(pieces(bytes, sizes(seed)), '<pipe>'),
  },
];

const OFF = 'SPAPR_HTAB_NO_ADDON';

/** Runs a job as where the addon could not be built. */
export async function withoutAddon<T>(job: () => Promise<T>): Promise<T> {
  const before = process.env[OFF];
  process.env[OFF] = '1';
  try {
    return await job();
  } finally {
    if (before === undefined) delete process.env[OFF];
    else process.env[OFF] = before;
  }
}
