import fc from 'fast-check';
import { Dice, seedOf } from './dice.js';
import { type Input, Judge } from './judge.js';
import type { Layout } from './layout.js';
import { mutate, type Shaped } from './mutate.js';
import { type Target, type Valid, Violation } from './target.js';
import { finished } from './targets/sampled.js';

/** What was tried on a parser so far. */
export interface Figures {
  inputs: number;
  accepted: number;
  /** How many inputs were refused, by error code. */
  refused: Record<string, number>;
  /** Different ways through the parser, as far as results tell. */
  ways: number;
  /** CPU and waiting, in milliseconds. */
  milliseconds: number;
}

export const noFigures = (): Figures => ({
  inputs: 0,
  accepted: 0,
  refused: {},
  ways: 0,
  milliseconds: 0,
});

/** An input that breaks an invariant, and what is wrong. */
export interface Broken {
  readonly input: Input;
  readonly feeds: readonly string[];
  readonly invariant: string;
  readonly message: string;
}

/** Generated files that are made at a time. */
const SAMPLE = 40;
/** Inputs that are kept because they took a new way. */
const MOST_KEPT = 400;
/** Longest input that is kept. */
const LONGEST_KEPT = 512 * 1024;

/**
 * Makes inputs for a parser, from generated valid files, real ones, and those that showed something
 * new: an input whose result no other had is mutated further. The same seed gives the same inputs.
 */
export class Fuzzer {
  readonly figures = noFigures();
  readonly #judge: Judge;
  readonly #dice: Dice;
  readonly #seen = new Set<string>();
  readonly #kept: Buffer[] = [];
  readonly #layouts = new WeakMap<Buffer, Promise<Layout>>();
  #seeds: readonly Buffer[] = [];
  #fresh: Valid[] = [];

  constructor(
    readonly target: Target,
    seed: number,
    folder: string,
  ) {
    this.#judge = new Judge(target, folder);
    this.#dice = new Dice(seedOf(target.name, seed));
  }

  async begin(): Promise<void> {
    this.#seeds = (await this.target.seeds?.()) ?? [];
  }

  /**
   * Tries one input.
   * @param before told of the input before it is tried: it may be the last that the process does
   */
  async step(before: (input: Input) => void): Promise<Broken | undefined> {
    const input = await this.#next();
    const all = this.#judge.feeds().slice(1);
    const feed = this.#dice.pick(all);
    const second = this.#dice.chance(0.3) ? this.#dice.pick(all) : undefined;
    const feeds = [feed, second].filter((one) => one !== undefined);
    before(input);
    const { figures } = this;
    figures.inputs++;
    try {
      const { outcome, signature } = await this.#judge.judge(input, feeds);
      if (outcome.accepted) figures.accepted++;
      else figures.refused[outcome.error.code] = (figures.refused[outcome.error.code] ?? 0) + 1;
      if (!this.#seen.has(signature)) this.#keep(signature, input.bytes);
      return undefined;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      const { invariant, message } = error;
      return { input, feeds: feeds.map(({ name }) => name), invariant, message };
    }
  }

  #keep(signature: string, bytes: Buffer): void {
    this.#seen.add(signature);
    this.figures.ways = this.#seen.size;
    if (bytes.length > LONGEST_KEPT) return;
    if (this.#kept.length < MOST_KEPT) this.#kept.push(bytes);
    else this.#kept[this.#dice.below(MOST_KEPT)] = bytes;
  }

  async #next(): Promise<Input> {
    const { target } = this;
    const dice = this.#dice;
    const variant = dice.pick(target.variants);
    if (dice.chance(0.12)) {
      const { bytes, expected, variant: meant } = await this.#valid();
      return { bytes, variant: meant ?? variant, valid: { expected } };
    }
    const file = await this.#base();
    const donor = dice.chance(0.5) ? file : await this.#base();
    const shaped = async (bytes: Buffer): Promise<Shaped> => ({
      bytes,
      layout: await this.#layout(bytes),
    });
    const damaged = mutate(await shaped(file), await shaped(donor), dice);
    return { bytes: target.repair?.(damaged, dice) ?? damaged, variant };
  }

  /** What an input is made from. */
  async #base(): Promise<Buffer> {
    const dice = this.#dice;
    const kept = dice.chance(0.4) ? dice.pick(this.#kept) : undefined;
    if (kept !== undefined) return kept;
    const seed = dice.chance(0.5) ? dice.pick(this.#seeds) : undefined;
    // Large ones less often: each takes as long as many small ones.
    if (seed !== undefined && (seed.length < 100_000 || dice.chance(0.1))) return seed;
    return (await this.#valid()).bytes;
  }

  async #valid(): Promise<Valid> {
    if (this.#fresh.length === 0) {
      this.#fresh = fc.sample(this.target.valid, { numRuns: SAMPLE, seed: this.#dice.seed() });
    }
    const next = this.#fresh.pop();
    if (next === undefined) throw new Error('nothing was generated');
    return finished(next);
  }

  #layout(bytes: Buffer): Promise<Layout> {
    const known = this.#layouts.get(bytes);
    if (known !== undefined) return known;
    const made = Promise.resolve(this.target.layout(bytes));
    this.#layouts.set(bytes, made);
    return made;
  }
}
