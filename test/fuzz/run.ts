import { seedOf } from './dice.js';
import { type Figures, noFigures } from './fuzzer.js';
import { type Found, LIMITS, type Limits, Watchdog } from './watch.js';

export interface RunOptions {
  readonly parsers: readonly string[];
  readonly seed: number;
  /** For each parser: it ends with the first that is reached. */
  readonly seconds?: number | undefined;
  readonly inputs?: number | undefined;
  /** Findings after which a parser is left alone. Default 20. */
  readonly findings?: number | undefined;
  /** Processes at once. Default 1. */
  readonly jobs?: number | undefined;
  /** Where inputs go that something is wrong with. */
  readonly folder: string;
  readonly limits?: Limits | undefined;
  /** Told when a parser is done. */
  readonly onResult?: ((result: ParserResult) => void) | undefined;
}

export interface ParserResult {
  readonly parser: string;
  readonly figures: Figures;
  readonly found: readonly Found[];
}

/** Tries the parsers one after another, in as many processes as there are jobs. */
export async function run(options: RunOptions): Promise<ParserResult[]> {
  const { parsers, jobs = 1, folder, limits = LIMITS } = options;
  const results: ParserResult[] = [];
  const queue = [...parsers];
  const job = async (): Promise<void> => {
    await using watchdog = new Watchdog(folder, limits);
    for (let parser = queue.shift(); parser !== undefined; parser = queue.shift()) {
      const result = await tryParser(watchdog, parser, options);
      results.push(result);
      options.onResult?.(result);
    }
  };
  await Promise.all(Array.from({ length: jobs }, job));
  return results.sort((a, b) => parsers.indexOf(a.parser) - parsers.indexOf(b.parser));
}

async function tryParser(
  watchdog: Watchdog,
  parser: string,
  options: RunOptions,
): Promise<ParserResult> {
  const { seed, seconds = 3600, inputs = Number.MAX_SAFE_INTEGER, findings = 20 } = options;
  const figures = noFigures();
  const found: Found[] = [];
  for (let turn = 0; ; turn++) {
    const watched = await watchdog.run({
      type: 'fuzz',
      parser,
      seed: turn === 0 ? seed : seedOf(seed, turn),
      inputs: inputs - figures.inputs,
      seconds: seconds - figures.milliseconds / 1000,
      most: findings - found.length,
    });
    found.push(...watched.found);
    if (watched.figures !== undefined) addFigures(figures, watched.figures);
    const enough = found.length >= findings;
    const over = figures.inputs >= inputs || figures.milliseconds / 1000 >= seconds;
    if (watched.ended || enough || over) return { parser, figures, found };
  }
}

function addFigures(sum: Figures, more: Figures): void {
  sum.inputs += more.inputs;
  sum.accepted += more.accepted;
  sum.milliseconds += more.milliseconds;
  sum.ways = Math.max(sum.ways, more.ways);
  for (const [code, count] of Object.entries(more.refused)) {
    sum.refused[code] = (sum.refused[code] ?? 0) + count;
  }
}
