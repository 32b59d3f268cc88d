import { rmSync } from 'node:fs';
import { type Case, DEFAULT_GROWTH, DEFAULT_PEAK, type Size, type Workshop } from './case.js';
import { requireSpace } from './inputs/space.js';
import { measure, median, type Sample } from './measure.js';

/** Of one program at one size: every round, in their order. */
export interface Timing {
  readonly name: string;
  readonly seconds: readonly number[];
  readonly median: number;
  readonly peakMiB: number;
}

export interface Comparison extends Timing {
  /** Our median by its median. */
  readonly ratio: number;
  readonly limit: number | undefined;
}

export interface FigureResult {
  readonly name: string;
  readonly values: readonly number[];
  readonly median: number;
  readonly limit: number;
}

export interface SizeResult {
  readonly case: string;
  readonly size: string;
  readonly amount: number;
  readonly ours: Timing;
  readonly against: readonly Comparison[];
  readonly figures: readonly FigureResult[];
  /** MiB. */
  readonly peakLimit: number;
}

/** From one size of a case to the next. */
export interface Growth {
  readonly case: string;
  readonly from: string;
  readonly to: string;
  readonly ratio: number;
  readonly limit: number;
  /** MiB that the peak grew by. */
  readonly peakGrowth: number;
  /** Whether it should not. */
  readonly peakLimited: boolean;
}

export interface RunOptions {
  readonly rounds: number;
  readonly outputs: string;
  /** Frees the outputs of a size. */
  readonly clear: () => void;
  readonly say: (what: string) => void;
}

/** A case at all its sizes. @throws Error when a program fails or a result is wrong */
export async function runCase(
  one: Case,
  shop: Workshop,
  options: RunOptions,
): Promise<{ sizes: SizeResult[]; growth: Growth[] }> {
  const sizes: SizeResult[] = [];
  for (const size of one.sizes) {
    options.say(`${one.name} ${size.label}`);
    sizes.push(await runSize(one, size, shop, options));
    options.clear();
  }
  return { sizes, growth: growthOf(one, sizes) };
}

async function runSize(
  one: Case,
  size: Size,
  shop: Workshop,
  options: RunOptions,
): Promise<SizeResult> {
  const prepared = await size.prepare(shop);
  requireSpace(options.outputs, size.outputBytes, `the output of '${one.name}'`);
  const { ours, against, figures = [] } = prepared;
  const runs = [ours, ...against.map(({ run }) => run)];
  const runner = shop.references.run;
  // Not counted: the files get into the page cache, and what is measured is shown to be right.
  for (const run of runs) await measure(runner, run);
  await prepared.check();
  options.clear();
  const samples: Sample[][] = runs.map(() => []);
  const values: number[][] = figures.map(() => []);
  const rounds = options.rounds * (one.repeat ?? 1);
  for (let round = 0; round < rounds; round++) {
    const turns = [...runs.keys()];
    // What comes first has an advantage now and then, so each does.
    if (round % 2 === 1) turns.reverse();
    for (const turn of turns) {
      const run = runs[turn];
      if (run === undefined) continue;
      samples[turn]?.push(await measure(runner, run));
      if (turn === 0) figures.forEach((figure, i) => void values[i]?.push(figure.read()));
      // Outputs may be in memory: it is to be there for the page cache, as inputs must stay in it.
      if (run.output !== undefined) rmSync(run.output, { force: true });
    }
  }
  const timings = samples.map((list, i) => timing(against[i - 1]?.name ?? 'ours', list));
  const [mine, ...others] = timings;
  if (mine === undefined) throw new Error('nothing was measured');
  return {
    case: one.name,
    size: size.label,
    amount: size.amount,
    ours: mine,
    against: others.map((other, i) => ({
      ...other,
      ratio: mine.median / other.median,
      limit: against[i]?.limit,
    })),
    figures: figures.map(({ name, limit }, i) => {
      const list = values[i] ?? [];
      return { name, limit, values: list, median: median(list) };
    }),
    peakLimit: one.peak ?? DEFAULT_PEAK,
  };
}

function timing(name: string, samples: readonly Sample[]): Timing {
  const seconds = samples.map((sample) => sample.seconds);
  const peakMiB = Math.max(...samples.map((sample) => sample.peakMiB));
  return { name, seconds, median: median(seconds), peakMiB };
}

function growthOf(one: Case, sizes: readonly SizeResult[]): Growth[] {
  return sizes.slice(1).flatMap((to, i) => {
    const from = sizes[i];
    if (from === undefined) return [];
    const doublings = Math.log2(to.amount / from.amount);
    return {
      case: one.name,
      from: from.size,
      to: to.size,
      ratio: to.ours.median / from.ours.median,
      limit: (one.growth ?? DEFAULT_GROWTH) ** doublings,
      peakGrowth: to.ours.peakMiB - from.ours.peakMiB,
      peakLimited: Number.isFinite(to.peakLimit),
    };
  });
}
