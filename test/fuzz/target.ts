import type fc from 'fast-check';
import type { ByteSource } from 'spapr-htab';
import type { Dice } from './dice.js';
import type { Layout } from './layout.js';

/** A file that is as it should be. */
export interface Valid {
  readonly bytes: Buffer;
  /** Variant of the target that it is meant for. Default: any. */
  readonly variant?: string;
  /** What the parser must make of it, as {@link Parsed.value}. Default: not known. */
  readonly expected?: string;
}

/** What a parser made of an input that it accepted. */
export interface Parsed {
  /** All that was found, in a form that can be compared: text, or a digest. */
  readonly value: string;
  /** What of it {@link Valid.expected} is about. Default: all. */
  readonly model?: string;
  /** What kind of result this is, for the search: inputs with a new one are kept. */
  readonly kind?: string;
  /** Positions in the input that the result speaks of: each must be inside. */
  readonly offsets?: readonly (number | undefined)[];
}

export interface Job {
  readonly bytes: Buffer;
  readonly variant: string;
  /** A folder for outputs, empty before. */
  readonly folder: string;
}

/** A parser under test. */
export interface Target {
  readonly name: string;
  /** Options of the parser, by name. */
  readonly variants: readonly [string, ...string[]];
  /** Ways in which it is fed. `bytes`: it takes bytes, and sources mean nothing to it. */
  readonly feeds: 'any' | 'seekable' | 'bytes';
  readonly valid: fc.Arbitrary<Valid>;
  /** Real files, or parts of them. */
  readonly seeds?: () => Promise<readonly Buffer[]>;
  readonly layout: (bytes: Buffer) => Layout | Promise<Layout>;
  /** Makes checksums and the like right again, so that damage gets behind them. */
  readonly repair?: (bytes: Buffer, dice: Dice) => Buffer;
  /**
   * Reads the source and closes it. What it throws must be an error of the package.
   */
  readonly parse: (source: ByteSource, job: Job) => Promise<Parsed>;
  /**
   * What must hold of an accepted input beyond that: that encoding it gives its bytes, that a plain model
   * says the same. @throws Violation
   */
  readonly check?: (job: Job, parsed: Parsed) => Promise<void> | void;
  /** Whether offsets are those of something inside, such as what was compressed. */
  readonly wraps?: (bytes: Buffer) => boolean;
}

/** What must not be: says which invariant does not hold. */
export class Violation extends Error {
  constructor(
    readonly invariant: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export function must(holds: boolean, invariant: string, message: () => string): void {
  if (!holds) throw new Violation(invariant, message());
}
