import type { OperationOptions } from './bytes/reader.js';
import { Reopenable } from './bytes/reopen.js';
import type { ByteSource } from './bytes/source.js';
import { FormatError, IoError, UsageError } from './errors.js';
import type { HtabItem } from './htab/items.js';
import { type OpenOptions, openHpt, seekable } from './input.js';
import type { Replacement } from './rewrite/hpt.js';
import { Outline } from './rewrite/outline.js';

export type ReplacementOptions = Pick<OpenOptions, 'from' | 'byteOrder' | 'order' | 'snapshot'>;

/**
 * An HPT that takes the place of another one. It is read once to know what it has, and again
 * whenever it is asked for; only one batch of blocks is held.
 */
export class ReplacementHpt implements Replacement, AsyncDisposable {
  readonly #outline = new Outline();
  readonly #input: Reopenable;
  readonly #options: ReplacementOptions & OperationOptions;

  private constructor(input: Reopenable, options: ReplacementOptions & OperationOptions) {
    this.#input = input;
    this.#options = options;
  }

  /** @throws what opening and reading an HPT throw */
  static async open(
    input: string | ByteSource,
    options: ReplacementOptions & OperationOptions,
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

  get order(): number | undefined {
    return this.#outline.order;
  }

  get radix(): boolean {
    return this.#outline.radix;
  }

  get payloads(): number {
    return this.#outline.payloads;
  }

  get regular(): boolean {
    return this.#outline.regular;
  }

  get reach(): number {
    return this.#outline.reach;
  }

  async #lookThrough(): Promise<void> {
    for await (const item of this.#read(this.#options.order)) this.#outline.add(item);
  }

  /** @throws IoError `E_IO` when it is not what it was: at its end at the latest */
  async *items(order: number | undefined): AsyncGenerator<HtabItem> {
    const seen = new Outline();
    try {
      for await (const item of this.#begun(order)) {
        seen.add(item);
        yield item;
      }
    } catch (error) {
      // It was sound when it was looked through.
      if (!(error instanceof FormatError || error instanceof UsageError)) throw error;
      throw this.#changed(error);
    }
    if (!this.#outline.fits(seen, order)) throw this.#changed();
  }

  /** With an order at the beginning, if that is known. */
  async *#begun(order: number | undefined): AsyncGenerator<HtabItem> {
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
    if (first && order !== undefined) yield { type: 'order', order, offset: 0 };
  }

  #changed(cause?: unknown): IoError {
    const message = `${this.name} changed while it was read; run again when nothing writes to it`;
    return new IoError('E_IO', message, { cause });
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
