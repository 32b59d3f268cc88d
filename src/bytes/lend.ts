import type { FileHandle } from 'node:fs/promises';

/**
 * Lends the descriptor of a file to what Node's fs knows nothing of, such as the addon. Closing
 * waits for what is lent: its number would soon mean another file.
 */
export class LentHandle {
  readonly #lent = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  constructor(readonly handle: FileHandle) {}

  /** @throws EBADF, as Node's fs does, when the file is closed */
  async lend<T>(use: (fd: number) => Promise<T>): Promise<T> {
    const { fd } = this.handle;
    if (this.#closing !== undefined || fd < 0) {
      throw Object.assign(new Error('the file was closed'), { code: 'EBADF' });
    }
    const work = use(fd);
    this.#lent.add(work);
    try {
      return await work;
    } finally {
      this.#lent.delete(work);
    }
  }

  /** May be called again: the file is closed once. */
  close(): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#lent).then(() => this.handle.close());
    return this.#closing;
  }
}
