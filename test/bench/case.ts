import type { InputStore } from './inputs/store.js';
import type { ProgramRun } from './measure.js';
import type { References } from './programs.js';

/** What a case is made with. */
export interface Workshop {
  readonly inputs: InputStore;
  readonly references: References;
  /** A path in the folder of outputs. */
  output(name: string): string;
}

/** What a case is compared with. */
export interface Yardstick {
  readonly name: string;
  readonly run: ProgramRun;
  /** How many times as long ours may take. Missing: it is only told. */
  readonly limit?: number | undefined;
}

/** A number that a run leaves behind, for what is measured within a process. */
export interface Figure {
  readonly name: string;
  readonly limit: number;
  read(): number;
}

/** A case at one size, with its inputs made. */
export interface Prepared {
  readonly ours: ProgramRun;
  readonly against: readonly Yardstick[];
  readonly figures?: readonly Figure[];
  /** After each of them ran once: throws unless the results are right. */
  check(): Promise<void> | void;
}

export interface Size {
  readonly label: string;
  /** What the case takes of its input, in any unit: the growth is told from size to size. */
  readonly amount: number;
  /** Bytes that the outputs of ours and of the yardsticks take together. */
  readonly outputBytes: number;
  prepare(shop: Workshop): Promise<Prepared> | Prepared;
}

export interface Case {
  readonly name: string;
  /** Cases of a group follow one another and use the same inputs. */
  readonly group: string;
  readonly sizes: readonly Size[];
  /** How many times as long it may take when the amount doubles. Default 2.1. */
  readonly growth?: number;
  /** MiB of the largest resident set. Default 120. */
  readonly peak?: number;
  /** How many times as many rounds: for what takes a blink. Default 1. */
  readonly repeat?: number;
}

export const DEFAULT_GROWTH = 2.1;
export const DEFAULT_PEAK = 120;
