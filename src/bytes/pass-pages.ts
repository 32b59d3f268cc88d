import { type Addon, loadAddon } from '../addon/load.js';
import { ioError } from '../errors.js';
import type { FileRange } from './file-behind.js';
import type { ByteReader } from './reader.js';

/** Bytes that one call of the addon passes over at most: how often progress is told. */
const STEP = 64 * 1024 * 1024;
/** Word and page: the addon passes over nothing longer. */
const LARGEST_ENTRY = 8 + 4096;
/** The part of a read that must be left, and be passed over, for a call to be worth its while. */
const WORTH = 1 / 4;
/** The most windows in a row that the addon is not asked about. */
const MOST_PAUSE = 64;

type WalkPages = NonNullable<Addon['walkPages']>;

export interface PassedPages {
  readonly pages: number;
  readonly zeroPages: number;
  /** Whether it was the length of a step that ended it. */
  readonly more: boolean;
}

/**
 * Lets the addon pass over pages of a file (native/src/walk-pages.h), as fast as they can be read.
 * It knows pages of the block before and zero pages, and stops in front of everything else. Where it
 * gets nowhere for that reason, it is asked less and less often.
 */
export class PagePasser {
  #pause = 0;
  #paused = 0;

  /**
   * Takes pages whose addresses are below `usedLength`, at most {@link STEP} bytes of them. The next
   * byte must be that of an entry's word. To be called when the window is used up.
   *
   * @returns undefined where nothing is to be gained: the reader stays where it is
   * @throws AbortedError; IoError when the file is closed
   */
  async pass(reader: ByteReader, usedLength: number): Promise<PassedPages | undefined> {
    const { size } = reader.source;
    const worth = reader.piece * WORTH;
    if (size === undefined || size - reader.offset < worth) return undefined;
    if (this.#paused < this.#pause) {
      this.#paused++;
      return undefined;
    }
    const file = reader.fileBehind();
    const walk = file && loadAddon().addon?.walkPages;
    if (file === undefined || walk === undefined) return undefined;
    const before = reader.offset;
    const passed = await passInFile(walk, file, reader, usedLength);
    const worthIt = reader.offset - before >= worth;
    this.#pause = worthIt ? 0 : Math.min(MOST_PAUSE, 2 * this.#pause + 1);
    this.#paused = 0;
    return passed;
  }
}

async function passInFile(
  walk: WalkPages,
  { file, from, end }: FileRange,
  reader: ByteReader,
  usedLength: number,
): Promise<PassedPages> {
  const before = reader.offset;
  const stop = Math.min(end, from + STEP, Number.MAX_SAFE_INTEGER);
  let result = { position: from, pages: 0, zeroPages: 0 };
  await reader.passOn(async () => {
    try {
      result = await file.lend((fd) =>
        walk(fd, from, stop, Math.min(usedLength, Number.MAX_SAFE_INTEGER)),
      );
    } catch (error) {
      throw ioError(error, 'read', file.name);
    }
    return before + (result.position - from);
  });
  const { position, pages, zeroPages } = result;
  return { pages, zeroPages, more: stop - position < LARGEST_ENTRY && stop < end };
}
