import type { OperationOptions } from './bytes/reader.js';
import { Reopenable } from './bytes/reopen.js';
import type { ByteSource } from './bytes/source.js';
import { FormatError, UsageError } from './errors.js';
import { Census } from './htab/census.js';
import type { HtabItem } from './htab/items.js';
import { type OpenOptions, openHpt, seekable } from './input.js';
import type { Replacement } from './rewrite/hpt.js';
import { endsPayload } from './rewrite/payloads.js';

export type ReplacementOptions = Pick<OpenOptions, 'from' | 'byteOrder' | 'order' | 'snapshot'>;

/**
 * An HPT that takes the place of another one. It is read once to know what it has, and again
 * whenever it is asked for; only one batch of blocks is held.
 */
export class ReplacementHpt implements Replacement, AsyncDisposable {
  order: number | undefined;
  radix = false;
  payloads = 0;
  regular = true;
  reach = 0;
  readonly #input: Reopenable;
  readonly #options: ReplacementOptions & OperationOptions;

  private constructor(input: Reopenable, options: ReplacementOptions & OperationOptions) {
    this.#input = input;
    this.#options = options;
  }

  /** @throws what opening and reading an HPT throw */
  static async open(
    input: string | ByteSource,
    options: ReplacementOptions & OperationOptions & Pick<OpenOptions, 'spoolLimit'>,
  ): Promise<ReplacementHpt> {
    const { onProgress: _, ...reading } = options;
    const outer = await Reopenable.of(input, (source) => seekable(source, options));
    const replacement = new ReplacementHpt(outer, reading);
    try {
      await replacement.#lookThrough();
      return replacement;
    } catch (error) {
      await outer.close();
      // Of two files, a message must say which one it is about.
      if (!(error instanceof FormatError || error instanceof UsageError)) throw error;
      throw error.about(`the HPT to put in (${outer.name})`);
    }
  }

  get name(): string {
    return this.#input.name;
  }

  async #lookThrough(): Promise<void> {
    const census = new Census();
    let starts = 0;
    let holes = 0;
    for await (const item of this.#read(this.#options.order)) {
      census.add(item);
      if (endsPayload(item)) this.payloads++;
      if (item.type === 'order') starts++;
      if (item.type === 'no-hpt') holes++;
    }
    const { order, radix, reach } = census.summary();
    this.order = order;
    this.radix = radix;
    this.reach = reach;
    this.regular = starts <= 1 && holes === 0;
    // Blocks alone are parts without a START.
    if (starts + holes === 0) this.payloads++;
  }

  async *items(order: number | undefined): AsyncGenerator<HtabItem> {
    let first = true;
    // What begins its table more than once may have had another order in between.
    const told = this.regular ? order : undefined;
    for await (const item of this.#read(this.#options.order ?? told)) {
      if (first && order !== undefined && item.type !== 'order' && item.type !== 'no-hpt') {
        yield { type: 'order', order, offset: 0 };
      }
      first = false;
      yield item;
    }
  }

  async *#read(order: number | undefined): AsyncGenerator<HtabItem> {
    await using hpt = await openHpt(this.#input.open(), { ...this.#options, order });
    yield* hpt.items({ order: true });
  }

  close(): Promise<void> {
    return this.#input.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
