import { closeSync, mkdirSync, openSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ERROR_CODES, SpaprHtabError } from 'spapr-htab';
import { FEEDS, type Feed, withoutAddon } from './feeds.js';
import { type Job, type Parsed, type Target, Violation } from './target.js';

/** What came of an input: what was found, or the error. */
export type Outcome =
  | { readonly accepted: true; readonly parsed: Parsed }
  | { readonly accepted: false; readonly error: SpaprHtabError };

/** An input, and which options its parser has. */
export interface Input {
  readonly bytes: Buffer;
  readonly variant: string;
  /** What must come out, for an input that nobody damaged. */
  readonly valid?: { readonly expected?: string | undefined };
}

export interface Judgement {
  readonly outcome: Outcome;
  /** The same for inputs that take the same way through the parser, as far as that shows. */
  readonly signature: string;
}

/** Gives inputs to a parser and holds the results against what must be. */
export class Judge {
  #turn = 0;

  constructor(
    readonly target: Target,
    /** A folder of its own. */
    readonly folder: string,
  ) {}

  /** Ways in which the target's inputs can come. */
  feeds(): readonly Feed[] {
    const { feeds } = this.target;
    if (feeds === 'bytes') return FEEDS.slice(0, 1);
    return feeds === 'seekable' ? FEEDS.filter(({ seekable }) => seekable) : FEEDS;
  }

  /**
   * @param others how the input comes beside whole
   * @throws Violation
   */
  async judge(input: Input, others: readonly Feed[]): Promise<Judgement> {
    const { target } = this;
    const first = new Map<boolean, Outcome>();
    const [whole] = FEEDS;
    if (whole === undefined) throw new Error('there is no feed');
    for (const feed of [whole, ...others]) {
      if (input.bytes.length > feed.most) continue;
      let reference = first.get(feed.seekable);
      if (reference === undefined && feed.seekable === false && feed.name !== 'pipe') {
        const pipe = FEEDS.find(({ name }) => name === 'pipe') ?? whole;
        reference = await this.#run(input, pipe);
        first.set(false, reference);
      }
      const outcome = await this.#run(input, feed);
      if (reference === undefined) first.set(feed.seekable, outcome);
      else compare(reference, outcome, feed.name);
      if (input.valid !== undefined) expectValid(outcome, input.valid.expected, feed.name);
    }
    const outcome = first.get(true);
    if (outcome === undefined) throw new Error('nothing was run');
    if (outcome.accepted) await this.#check(input, outcome.parsed);
    if (Object.keys(Object.prototype).length > 0 || Object.keys(Array.prototype).length > 0) {
      throw new Violation('prototype', 'names from a file became properties of every object');
    }
    return { outcome, signature: signatureOf(target, input, outcome) };
  }

  /** The folder that a job gets, with nothing in it. */
  #clean(): string {
    const folder = join(this.folder, 'job');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  async #run({ bytes, variant }: Input, feed: Feed): Promise<Outcome> {
    const { target } = this;
    const folder = this.#clean();
    const place = { path: join(this.folder, 'input'), seed: ++this.#turn };
    const copy = Buffer.from(bytes);
    const source = await feed.open(copy, place);
    const job: Job = { bytes: copy, variant, folder };
    const parse = (): Promise<Parsed> => target.parse(source, job);
    const limit = target.wraps?.(bytes) ? Number.MAX_SAFE_INTEGER : bytes.length;
    let outcome: Outcome;
    try {
      const parsed = await (feed.withoutAddon ? withoutAddon(parse) : parse());
      for (const offset of parsed.offsets ?? []) expectOffset(offset, limit, feed.name);
      outcome = { accepted: true, parsed };
    } catch (error) {
      if (error instanceof Violation) throw error;
      outcome = { accepted: false, error: expectTyped(error, limit, feed.name) };
    }
    if (!copy.equals(bytes)) throw new Violation('input', `${feed.name}: the input was written to`);
    if (!outcome.accepted && readdirSync(folder).length > 0) {
      const left = readdirSync(folder).join(', ');
      throw new Violation('left over', `${feed.name}: an input was refused, and ${left} is there`);
    }
    return outcome;
  }

  async #check({ bytes, variant }: Input, parsed: Parsed): Promise<void> {
    try {
      await this.target.check?.({ bytes, variant, folder: this.#clean() }, parsed);
    } catch (error) {
      if (error instanceof Violation) throw error;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      throw new Violation('accepted', `what was accepted fails later: ${text}`, { cause: error });
    }
  }
}

/** Only what the package throws on purpose, with a place in the input if it has one. */
function expectTyped(error: unknown, limit: number, feed: string): SpaprHtabError {
  if (!(error instanceof SpaprHtabError)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new Violation('error', `${feed}: not an error of the package: ${text}`, { cause: error });
  }
  if (!ERROR_CODES.includes(error.code)) {
    throw new Violation('error', `${feed}: ${error.code} is no code`, { cause: error });
  }
  // What is read is in memory or in a file of our own: nothing can fail there.
  if (error.code === 'E_IO' || error.code === 'E_ABORTED') {
    throw new Violation('error', `${feed}: ${error.message}`, { cause: error });
  }
  expectOffset(error.offset, limit, `${feed}: ${error.code}, ${error.message}`);
  return error;
}

function expectOffset(offset: number | undefined, limit: number, what: string): void {
  if (offset === undefined) return;
  if (Number.isSafeInteger(offset) && offset >= 0 && offset <= limit) return;
  throw new Violation('offset', `${what}: offset ${offset} in an input of ${limit} bytes`);
}

function expectValid(outcome: Outcome, expected: string | undefined, feed: string): void {
  if (!outcome.accepted) {
    throw new Violation('valid', `${feed}: a valid input is refused: ${outcome.error.message}`);
  }
  if (expected !== undefined && (outcome.parsed.model ?? outcome.parsed.value) !== expected) {
    const { value } = outcome.parsed;
    throw new Violation('valid', `${feed}: read as\n${value}\ninstead of\n${expected}`);
  }
}

function compare(reference: Outcome, outcome: Outcome, feed: string): void {
  const [one, other] = [describe(reference), describe(outcome)];
  if (one === other) return;
  throw new Violation('same result', `whole: ${one}\n${feed}: ${other}`);
}

function describe(outcome: Outcome): string {
  if (outcome.accepted) return outcome.parsed.value;
  const { code, offset, message } = outcome.error;
  // Names of sources differ; what is said of the format must not.
  return `${code} at ${offset}${code === 'E_TRUNCATED' ? '' : `: ${plainWords(message)}`}`;
}

function plainWords(message: string): string {
  return message.replaceAll(/\/\S+|<\w+>/g, '…');
}

function signatureOf({ name }: Target, { variant }: Input, outcome: Outcome): string {
  if (outcome.accepted) return `${name} ${variant} ok ${outcome.parsed.kind ?? ''}`;
  const { code, offset, path, message } = outcome.error;
  const depth = offset === undefined ? '' : Math.floor(Math.log2(offset + 1));
  const words = message.replaceAll(/'[^']*'|"[^"]*"/g, '…').replaceAll(/[\da-f]{2,}|\d+/g, '#');
  return `${name} ${variant} ${code} ${depth} ${path?.replaceAll(/\d+/g, '#')} ${words.slice(0, 120)}`;
}

/** How many descriptors the process has open; undefined where that cannot be told. */
export function openDescriptors(): number | undefined {
  try {
    const fd = openSync('/proc/self/fd', 'r');
    closeSync(fd);
    return readdirSync('/proc/self/fd').length;
  } catch {
    return undefined;
  }
}
