import { type ByteSource, openFile, SliceSource } from './source.js';

/**
 * An input that is read more than once. What is opened may be closed each time; the input itself
 * stays open until `close`, so that every reading is of the same file whatever its name stands for
 * by then.
 */
export class Reopenable implements AsyncDisposable {
  private constructor(private readonly source: ByteSource) {}

  /**
   * @param input a path, or a source that is closed with this
   * @param seekable turns what can only be read forward into what can be read anywhere
   */
  static async of(
    input: string | ByteSource,
    seekable: (source: ByteSource) => Promise<ByteSource>,
  ): Promise<Reopenable> {
    return new Reopenable(
      await seekable(typeof input === 'string' ? await openFile(input) : input),
    );
  }

  get name(): string {
    return this.source.name;
  }

  get size(): number | undefined {
    return this.source.size;
  }

  /** All of it, for one reading. */
  open(): ByteSource {
    return new SliceSource(this.source, 0, undefined, false);
  }

  close(): Promise<void> {
    return this.source.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
