import { randomBytes } from 'node:crypto';
import {
  checkSnapshot,
  convert,
  extractRam,
  IterableSource,
  inspect,
  inspectDevices,
  rewrite,
  verify,
} from 'spapr-htab';
import { described, dump, field } from '../compat/support.js';
import { type EncodedState, state, struct, value, vmdesc } from '../devices/writer.js';
import {
  chunk,
  command,
  configuration,
  end,
  full,
  header,
  hpte,
  htabPart,
  part,
  ram,
  start,
  str8,
  u32,
  u64,
} from '../helpers/stream.js';
import { type Case, fileOf, sizesTo, times } from './case.js';

const FOOTERS = { footers: true };
const MIB = 1 << 20;

interface Content {
  /** Elements behind START of `ram` and of `spapr/htab`. */
  readonly elements?: Iterable<Uint8Array>;
  /** Elements behind both, devices above all. */
  readonly devices?: Iterable<Uint8Array>;
  readonly description?: Buffer;
  readonly blockList?: Uint8Array;
}

/** A stream of a guest of 1 MiB with an HPT of order 20. */
function* stream(content: Content): Generator<Uint8Array> {
  yield header();
  yield configuration('pseries-7.2');
  yield start(
    2,
    'ram',
    4,
    Buffer.from(content.blockList ?? ram.setup('ppc_spapr.ram', MIB)),
    FOOTERS,
  );
  yield start(5, 'spapr/htab', 1, u32(20), FOOTERS);
  yield* content.elements ?? [];
  yield end(2, ram.empty, FOOTERS);
  yield end(5, htabPart(chunk(9, [hpte(3)], 4)), FOOTERS);
  yield* content.devices ?? [];
  yield Buffer.of(0);
  const { description } = content;
  if (description === undefined) return;
  yield Buffer.concat([Buffer.of(6), u32(description.length)]);
  yield description;
}

type Verb = (path: string, folder: string) => Promise<unknown>;

const VERBS = {
  info: (path) => inspect(path),
  verify: (path) => verify(path),
  section: (path, folder) => convert(path, `${folder}/output`, { to: 'section', force: true }),
  rewrite: (path, folder) => rewrite(path, `${folder}/output`, { force: true, compact: true }),
  ram: (path, folder) => extractRam(path, `${folder}/output`, { force: true }),
  devices: async (path) => {
    for await (const _ of inspectDevices(path));
  },
  check: (path) => checkSnapshot(path, TARGET),
} satisfies Record<string, Verb>;

const TARGET = dump([described('thing', [field('data', 4)])]);

interface Shape {
  readonly name: string;
  readonly unit: string;
  readonly content: (size: number) => Content;
}

function shaped(verbs: readonly (keyof typeof VERBS)[], largest: number, shape: Shape): Case[] {
  return verbs.map((verb) => ({
    name: `${verb}: ${shape.name}`,
    unit: shape.unit,
    sizes: sizesTo(largest),
    prepare(size, folder) {
      const path = fileOf(folder, stream(shape.content(size)));
      return async () => void (await VERBS[verb](path, folder));
    },
  }));
}

/** Devices with a description of each. */
function devices(states: readonly EncodedState[]): Content {
  return {
    devices: states.map((one, i) => full(10 + i, one.vmsd, one.version, one.bytes, FOOTERS)),
    description: vmdesc(states.map((one) => ({ name: one.vmsd, json: one.json }))),
  };
}

const word = (name: string): ReturnType<typeof value> => value(name, 'uint32', u32(7));

/** The bytes of many fields, written here without building each on the one before. */
const flat = (fields: number, name: (i: number) => string): EncodedState => {
  const json = Array.from(
    { length: fields },
    (_, i) => `{"name": ${JSON.stringify(name(i))}, "type": "uint32", "size": 4}`,
  );
  return {
    vmsd: 'thing',
    version: 1,
    json: `"vmsd_name": "thing", "version": 1, "fields": [${json.join(', ')}]`,
    bytes: Buffer.alloc(4 * fields),
    expected: undefined,
  };
};

function nested(depth: number, around: (inner: EncodedState) => EncodedState): EncodedState {
  let one = state('thing', 1, [word('innermost')]);
  for (let i = 0; i < depth; i++) one = around(one);
  return one;
}

const page = (words: number, extra: Buffer): Buffer => Buffer.concat([u64(words), extra]);
/** Entries of the section `ram`: a page of zeros, of bytes, XBZRLE; of a block by name. */
const RAM = { ZERO: 2, PAGE: 8, SAME: 32, XBZRLE: 64, COMPRESSED: 256 };
const BLOCK = str8('ppc_spapr.ram');

/** A part of `ram` with one page that changes a little, again and again. */
function* deltas(count: number): Generator<Uint8Array> {
  const content = randomBytes(4096);
  const delta = Buffer.of(10, 1, 0x55);
  const again = Buffer.concat([u64(RAM.XBZRLE + RAM.SAME), Buffer.of(1, 0, delta.length), delta]);
  yield Buffer.concat([Buffer.of(2), u32(2), page(RAM.PAGE, Buffer.concat([BLOCK, content]))]);
  yield* times(count, () => again);
  yield Buffer.concat([u64(0x10), Buffer.of(0x7e), u32(2)]);
}

/** Parts of one page each, that say the block anew. */
const onePageParts = (count: number, blocks: number): Generator<Uint8Array> =>
  times(count, (i) =>
    part(
      2,
      Buffer.concat([
        u64(RAM.ZERO),
        blocks === 1 ? BLOCK : str8(`block-${(i * 7919) % blocks}`),
        Buffer.of(0),
        u64(0x10),
      ]),
      FOOTERS,
    ),
  );

const blockList = (blocks: number): Buffer =>
  Buffer.concat([
    u64(blocks * 4096 + 4),
    ...Array.from({ length: blocks }, (_, i) => Buffer.concat([str8(`block-${i}`), u64(4096)])),
    u64(0x10),
  ]);

export const streamCases: readonly Case[] = [
  ...shaped(['info', 'section', 'rewrite', 'verify'], 12_000, {
    name: 'empty parts of spapr/htab',
    unit: 'parts',
    content: (size) => ({ elements: times(size, () => part(5, htabPart(), FOOTERS)) }),
  }),
  ...shaped(['info', 'rewrite', 'devices', 'check'], 5000, {
    name: 'many devices',
    unit: 'sections',
    content: (size) =>
      devices(
        Array.from({ length: size }, (_, i) =>
          state(`thing${i}`, 1, [value('data', 'buffer', u32(i))]),
        ),
      ),
  }),
  ...shaped(['info', 'devices'], 16_000, {
    name: 'devices without a description',
    unit: 'sections',
    content: (size) => ({
      devices: times(size, (i) => full(10 + i, `thing${i}`, 1, Buffer.alloc(40, 0x7e), FOOTERS)),
    }),
  }),
  ...shaped(['info'], 2_000_000, {
    name: 'what looks like a footer, in a device without a description',
    unit: 'bytes',
    content: (size) => ({
      devices: [
        full(
          0x7e7e7e7e,
          'thing',
          1,
          Buffer.concat([Buffer.of(1), Buffer.alloc(size, 0x7e)]),
          FOOTERS,
        ),
      ],
    }),
  }),
  ...shaped(['info', 'devices', 'check'], 40_000, {
    name: 'a device of many fields',
    unit: 'fields',
    content: (size) => devices([flat(size, (i) => `field${i}`)]),
  }),
  ...shaped(['devices'], 40_000, {
    name: 'a device of many fields of one name',
    unit: 'fields',
    content: (size) => devices([flat(size, () => 'same')]),
  }),
  ...shaped(['info', 'devices'], 4_000_000, {
    name: 'a field with a long name',
    unit: 'bytes',
    content: (size) => devices([flat(1, () => 'x'.repeat(size))]),
  }),
  ...shaped(['devices', 'check'], 2000, {
    name: 'many subsections',
    unit: 'subsections',
    content: (size) =>
      devices([
        state(
          'thing',
          1,
          [word('data')],
          Array.from({ length: size }, (_, i) => state(`thing/${i}`, 1, [word('data')])),
        ),
      ]),
  }),
  ...shaped(['info'], 700_000, {
    name: 'a description of empty lists',
    unit: 'lists',
    content: (size) => ({
      description: Buffer.from(`{"lists": [${'[],'.repeat(size)}[]], "devices": []}`),
    }),
  }),
  ...['structs', 'subsections'].flatMap((kind) =>
    shaped(['devices', 'check'], 16, {
      name: `400 devices of deep ${kind}`,
      unit: 'levels',
      content: (size) =>
        devices(
          Array.from({ length: 400 }, () =>
            nested(size, (inner) =>
              kind === 'structs'
                ? state('thing', 1, [struct('inner', inner)])
                : state('thing', 1, [word('data')], [inner]),
            ),
          ),
        ),
    }),
  ),
  ...shaped(['info', 'ram', 'rewrite'], 40_000, {
    name: 'RAM blocks, each with a page',
    unit: 'blocks',
    content: (size) => ({ blockList: blockList(size), elements: onePageParts(size, size) }),
  }),
  ...shaped(['info', 'ram'], 80_000, {
    name: 'parts of ram of one page',
    unit: 'parts',
    content: (size) => ({ elements: onePageParts(size, 1) }),
  }),
  ...shaped(['ram', 'info'], 20_000, {
    name: 'XBZRLE of one page',
    unit: 'deltas',
    content: (size) => ({ elements: deltas(size) }),
  }),
  ...shaped(['info', 'rewrite'], 60_000, {
    name: 'commands',
    unit: 'commands',
    content: (size) => ({ elements: times(size, () => command(2, u32(1))) }),
  }),
  ...shaped(['info', 'verify'], 60_000, {
    name: 'warnings',
    unit: 'commands',
    content: (size) => ({ elements: times(size, () => command(300, Buffer.alloc(0))) }),
  }),
  ...shaped(['info', 'section'], 1_000_000, {
    name: 'dirty bitmaps in chunks of one byte',
    unit: 'chunks',
    content: (size) => ({
      elements: [
        start(9, 'dirty-bitmap', 1, Buffer.of(1), FOOTERS),
        Buffer.concat([Buffer.of(2), u32(9), Buffer.alloc(size), Buffer.of(1, 0x7e), u32(9)]),
      ],
    }),
  }),
  ...shaped(['info'], 16_000_000, {
    name: 'lengths of descriptions that are none',
    unit: 'bytes',
    content: (size) => {
      const begin = Buffer.concat([Buffer.of(6), u32(size / 2), Buffer.from('{"')]);
      return { description: Buffer.alloc(size, begin) };
    },
  }),
  {
    name: 'section: a stream of one byte at a time',
    unit: 'bytes',
    sizes: sizesTo(400_000),
    prepare(size, folder) {
      const blocks = Array.from({ length: Math.floor(size / 24) }, (_, i) =>
        chunk(2 * i + 1, [hpte(i)]),
      );
      const bytes = Buffer.concat([
        ...stream({ elements: [part(5, htabPart(...blocks), FOOTERS)] }),
      ]);
      return async () => {
        const pieces = times(bytes.length, (at) => bytes.subarray(at, at + 1));
        await convert(new IterableSource(pieces), `${folder}/output`, {
          to: 'section',
          force: true,
        });
      };
    },
  },
];
