import { endianness } from 'node:os';
import { errnoName } from '../addon/errno.js';
import { NATIVE_MAX_BYTES, type NativeFile } from '../addon/load.js';
import { IoError, UsageError } from '../errors.js';
import type { ByteOrder } from '../htab/block.js';
import { checkLength } from './arguments.js';
import { type BlocksWritten, type HtabDescriptor, htabFdError } from './descriptor.js';
import { wholeBlocks } from './pieces.js';

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

  /** At most 16 MiB come, whatever is asked for. */
  async read(length: number): Promise<Uint8Array> {
    const most = Math.min(checkLength(length), NATIVE_MAX_BYTES);
    const { bytes, errno } = await this.#call((file) => file.read(most));
    if (errno !== 0) {
      const name = errnoName(errno);
      const words = name === 'EBADF' ? 'it was opened for writing' : name;
      throw htabFdError('read the HTAB fd', name, words);
    }
    return bytes;
  }

  /** @throws UsageError `E_USAGE` for more than 16 MiB */
  async write(bytes: Uint8Array): Promise<number> {
    if (bytes.length > NATIVE_MAX_BYTES) {
      throw new UsageError('E_USAGE', 'one write takes 16 MiB at most', {
        actual: `${bytes.length} bytes`,
      });
    }
    const { count, errno } = await this.#call((file) => file.write(bytes));
    if (errno !== 0) throw htabFdError('write the HTAB fd', errnoName(errno), errnoName(errno));
    return count;
  }

  async writeBlocks(bytes: Uint8Array): Promise<BlocksWritten> {
    let done: BlocksWritten = { blocks: 0, bytes: 0, errno: undefined };
    for (const piece of wholeBlocks(bytes, this.byteOrder, NATIVE_MAX_BYTES)) {
      const written = await this.#call((file) => file.writeBlocks(piece));
      const errno = written.errno === 0 ? undefined : errnoName(written.errno);
      done = { blocks: done.blocks + written.blocks, bytes: done.bytes + written.bytes, errno };
      if (errno !== undefined) break;
    }
    return done;
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
