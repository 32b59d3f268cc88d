import type { ByteReader } from '../bytes/reader.js';
import { UsageError } from '../errors.js';
import {
  describeSection,
  type PayloadContext,
  type PayloadWalker,
  type SectionEvent,
  type SectionIdentity,
  type SectionKind,
} from './elements.js';

/** A payload that a consumer may take; whatever is left of it is walked by `finish`. */
export class Payload implements SectionEvent {
  readonly type = 'section';
  readonly payloadOffset: number;
  readonly #reader: ByteReader;
  readonly #context: PayloadContext;
  readonly #walker: PayloadWalker<unknown>;
  #walk: AsyncGenerator<unknown> | undefined;

  constructor(
    readonly kind: SectionKind,
    readonly section: SectionIdentity,
    readonly offset: number,
    reader: ByteReader,
    context: PayloadContext,
    walker: PayloadWalker<unknown>,
  ) {
    this.payloadOffset = reader.offset;
    this.#reader = reader;
    this.#context = context;
    this.#walker = walker;
  }

  async *read<T>(walker: PayloadWalker<T>): AsyncGenerator<T> {
    const walk = this.#begin(walker);
    for (let next = await walk.next(); !next.done; next = await walk.next()) yield next.value;
  }

  async *bytes(): AsyncGenerator<Uint8Array> {
    const walk = this.#begin(this.#walker);
    const reader = this.#reader;
    const pieces: Uint8Array[] = [];
    reader.tap((bytes) => pieces.push(bytes.slice()));
    try {
      for (let done = false; !done; ) {
        done = (await walk.next()).done === true;
        reader.flushTap();
        yield* pieces.splice(0);
      }
    } finally {
      reader.untap();
    }
  }

  #begin<T>(walker: PayloadWalker<T>): AsyncGenerator<T> {
    if (this.#walk !== undefined) {
      throw new UsageError('E_USAGE', `${describeSection(this.section)} was read already`);
    }
    const walk = walker(this.#reader, this.#context);
    this.#walk = walk;
    return walk;
  }

  async finish(): Promise<void> {
    const walk = this.#walk ?? this.#begin(this.#walker);
    for (let next = await walk.next(); !next.done; next = await walk.next());
  }
}
