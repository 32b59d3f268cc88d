import { endianness } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type { NativeFile } from '../addon/load.js';
import { IoError } from '../errors.js';
import type { ByteOrder } from '../htab/block.js';
import { type BlocksWritten, type HtabDescriptor, htabFdError } from './descriptor.js';

/** The name of an errno, as of errno(3). */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno);
}

/** A descriptor of the operating system. Calls are made on threads of the pool, one at a time. */
export class NativeDescriptor implements HtabDescriptor {
  readonly backend = 'native';
  readonly byteOrder: ByteOrder = endianness() === 'LE' ? 'little' : 'big';
  #file: NativeFile | undefined;
  /** The call that was made last, or the closing. */
  #last: Promise<unknown> = Promise.resolve();

  /** Takes the file over. */
  constructor(file: NativeFile) {
    this.#file = file;
  }

  async read(length: number): Promise<Uint8Array> {
    const { bytes, errno } = await this.#call((file) => file.read(length));
    if (errno !== 0) {
      const name = errnoName(errno);
      const words = name === 'EBADF' ? 'it was opened for writing' : name;
      throw htabFdError('read the HTAB fd', name, words);
    }
    return bytes;
  }

  async write(bytes: Uint8Array): Promise<number> {
    const { count, errno } = await this.#call((file) => file.write(bytes));
    if (errno !== 0) throw htabFdError('write the HTAB fd', errnoName(errno), errnoName(errno));
    return count;
  }

  async writeBlocks(bytes: Uint8Array): Promise<BlocksWritten> {
    const written = await this.#call((file) => file.writeBlocks(bytes));
    const errno = written.errno === 0 ? undefined : errnoName(written.errno);
    return { blocks: written.blocks, bytes: written.bytes, errno };
  }

  #call<T>(call: (file: NativeFile) => Promise<T>): Promise<T> {
    const file = this.#file;
    if (file === undefined) {
      return Promise.reject(new IoError('E_IO', 'the HTAB fd is closed', { actual: 'EBADF' }));
    }
    const result = this.#last.then(() => call(file));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) this.#last = this.#last.then(() => file.close());
    await this.#last;
  }
}
