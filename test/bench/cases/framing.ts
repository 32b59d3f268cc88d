import type { Case, Prepared, Size, Workshop, Yardstick } from '../case.js';
import { type HptShape, kernelBytes, type Runs, writeKernel, writeSection } from '../inputs/hpt.js';
import { ours } from '../programs.js';
import { requireSame } from '../same-file.js';

export interface FramingShapes {
  readonly label: string;
  /** About how long the files are. */
  readonly bytes: number;
  readonly order: number;
}

export const FRAMING_SHAPES: readonly FramingShapes[] = [
  { label: '1 GiB', bytes: 2 ** 30, order: 33 },
  { label: '2 GiB', bytes: 2 ** 31, order: 34 },
];

/** How many times as long as the C program, or cp, each may take. */
const LIMITS: Readonly<Record<Runs, { reference?: number; cp?: number }>> = {
  single: { reference: 1.25 },
  short: {},
  dense: { cp: 1.1 },
};

const TITLES = { single: 'one entry a chunk', short: 'short runs', dense: 'dense' } as const;

/** Kernel blocks to section payloads and back: nothing but headers to turn round. */
export function framingCases(shapes: readonly FramingShapes[] = FRAMING_SHAPES): Case[] {
  return (['single', 'short', 'dense'] as const).flatMap((runs) =>
    (['section', 'kernel'] as const).map((to) => ({
      name: `${to === 'section' ? 'kernel → section' : 'section → kernel'}, ${TITLES[runs]}`,
      group: `framing ${runs}`,
      sizes: shapes.map((shape) => sizeOf(shape, runs, to)),
    })),
  );
}

function sizeOf(
  { label, bytes, order }: FramingShapes,
  runs: Runs,
  to: 'section' | 'kernel',
): Size {
  const one: HptShape = { order, entries: 1, runs };
  const perEntry = runs === 'dense' ? 16 : kernelBytes(one);
  const shape = { ...one, entries: Math.floor(bytes / perEntry) };
  return {
    label,
    amount: bytes,
    outputBytes: 3 * bytes,
    prepare: (shop) => prepare(shop, shape, bytes, to),
  };
}

function prepare(
  shop: Workshop,
  shape: HptShape,
  bytes: number,
  to: 'section' | 'kernel',
): Prepared {
  const { order, runs } = shape;
  const name = `hpt-${order}-${runs}`;
  const kernel = shop.inputs.make(`${name}.htab`, bytes, (out) => writeKernel(out, [shape]));
  const section = shop.inputs.make(`${name}.section`, bytes, (out) => writeSection(out, shape));
  const [input, expected] = to === 'section' ? [kernel, section] : [section, kernel];
  const result = shop.output(`ours.${to === 'section' ? 'section' : 'htab'}`);
  const theirs = shop.output('theirs');
  const copied = shop.output('copied');
  const { reference, cp } = LIMITS[runs];
  const program = [shop.references.reframe, to, String(order), input, theirs];
  const against: Yardstick[] = [
    { name: 'C', run: { command: program, output: theirs, sync: true }, limit: reference },
    {
      name: 'cp',
      run: { command: ['cp', input, copied], output: copied, sync: true },
      limit: cp,
    },
  ];
  const options = to === 'section' ? ['--order', String(order)] : [];
  return {
    ours: { command: ours('convert', input, '-o', result, ...options), output: result },
    against,
    check: () => {
      requireSame(result, expected);
      requireSame(theirs, expected);
      requireSame(copied, input);
    },
  };
}
