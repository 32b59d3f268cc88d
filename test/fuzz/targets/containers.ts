import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type ByteSource, openContainer } from 'spapr-htab';
import { type ClusterKind, makeQcow2, type Qcow2Recipe } from '../../container/make-qcow2.js';
import { compressedImages, libvirtImages, qcow2Images } from '../corpus.js';
import { digest, readSome, textOf } from '../digest.js';
import { guests, libvirtImages as madeLibvirt } from '../generate/streams.js';
import { libvirtLayout, qcow2Layout } from '../layouts/containers.js';
import { must, type Parsed, type Target, type Valid } from '../target.js';
import { anyLayout, wrapsOthers } from './any.js';

const LOOKED_AT = 256 * 1024;

/** What is inside: the layers, and the first bytes. */
async function parseContainer(source: ByteSource, snapshot?: string): Promise<Parsed> {
  await using opened = await openContainer(source, { xml: true, snapshot });
  const { layers, start } = opened;
  const inside = await readSome(opened.source, start, LOOKED_AT);
  const { size } = opened.source;
  const last =
    opened.source.seekable && size !== undefined && size > start + LOOKED_AT
      ? await readSome(opened.source, size - 4096, 8192)
      : Buffer.alloc(0);
  must(last.length <= 4096, 'size', () => 'bytes behind the end');
  const kinds = layers.map(({ kind }) => kind).join();
  return {
    value: `${textOf(layers)} ${start} ${inside.length} ${digest(inside)} ${digest(last)}`,
    model: digest(inside),
    kind: `${kinds} ${Math.ceil(Math.log2(inside.length + 1))} ${start}`,
    offsets: [],
  };
}

/** Header, XML and cookie of a libvirt image. */
export const libvirt: Target = {
  name: 'libvirt',
  variants: ['any'],
  feeds: 'any',
  valid: madeLibvirt,
  seeds: libvirtImages,
  layout: libvirtLayout,
  wraps: wrapsOthers,
  parse: (source) => parseContainer(source),
};

const kinds: fc.Arbitrary<ClusterKind> = fc.constantFrom(
  'data',
  'zero',
  'zero-allocated',
  'hole',
  'compressed',
);

const images: fc.Arbitrary<Valid> = fc
  .record({
    version: fc.constantFrom(2 as const, 3 as const),
    clusterBits: fc.integer({ min: 9, max: 12 }),
    extendedL2: fc.boolean(),
    compression: fc.constantFrom('deflate' as const, 'zstd' as const),
    state: guests,
    others: fc.nat(2),
    extraLength: fc.constantFrom(0, 8, 16, 24, 30),
    plan: fc.array(kinds, { minLength: 1, maxLength: 12 }),
  })
  .map(({ version, state, others, extraLength, plan, extendedL2, compression, clusterBits }) => {
    const three = version === 3;
    const extended = three && extendedL2 && clusterBits >= 14;
    const recipe: Qcow2Recipe = {
      version,
      clusterBits,
      diskSize: 64 * 1024,
      ...(three && { compression }),
      ...(extended && { extendedL2 }),
      snapshots: [
        ...Array.from({ length: others }, (_, i) => ({
          id: `${i + 2}`,
          name: `n${i}`,
          state: Buffer.alloc(700, i + 1),
        })),
        {
          id: '1',
          name: 'chosen',
          state: state.bytes,
          extraLength,
          plan: (n: number) => planned(plan[n % plan.length], three),
        },
      ],
    };
    const { image, states } = makeQcow2(recipe);
    const content = states.at(-1) ?? Buffer.alloc(0);
    return { bytes: image, variant: '1', expected: digest(content.subarray(0, LOOKED_AT)) };
  });

/** Version 2 has no clusters that read as zeros, but for those that are not there. */
function planned(kind: ClusterKind = 'data', three: boolean): ClusterKind {
  return !three && kind.startsWith('zero') ? 'hole' : kind;
}

/** Header, snapshots and clusters of a qcow2 image. */
export const qcow2: Target = {
  name: 'qcow2',
  variants: ['1', 'chosen', 'only'],
  feeds: 'seekable',
  valid: images,
  seeds: qcow2Images,
  layout: qcow2Layout,
  parse: (source, { variant }) => parseContainer(source, variant === 'only' ? undefined : variant),
};

/** Files that are compressed as a whole: Node's own, and the programs that others are given to. */
export const compressed: Target = {
  name: 'compressed',
  variants: ['any'],
  feeds: 'any',
  valid: guests.map(({ bytes }) => ({
    bytes: gzipSync(bytes),
    expected: digest(bytes.subarray(0, LOOKED_AT)),
  })),
  seeds: compressedImages,
  layout: anyLayout,
  wraps: () => true,
  parse: (source) => parseContainer(source),
};
