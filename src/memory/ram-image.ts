import { inflateSync } from 'node:zlib';
import type { RandomAccessFile } from '../bytes/output.js';
import { FormatError } from '../errors.js';
import { RAM_SECTION, TARGET_PAGE } from '../qevm/ram.js';
import { PAGE_KIND, PageEntries } from './entries.js';
import { WrittenPages } from './written.js';
import { decodeXbzrle } from './xbzrle.js';

/** Pages that are written, or read back, at once. */
const STRETCH_PAGES = 256;
/** Compressed pages that were no pages, remembered until something overwrites them. */
const MAX_BROKEN = 65536;

export interface RamImageOptions {
  /** Bits that may be spent on what was written; see {@link WrittenPages}. */
  readonly bitmapLimit?: number | undefined;
}

/**
 * Writes the pages of one RAM block into a sparse file, in stream order and constant memory.
 *
 * Entries are taken down without waiting (`page`, `zero`, `xbzrle`, `compressed`) while the window
 * that they stand in stays as it is; `settle` writes them, before the window moves on. Pages never
 * written, and zero pages where nothing was written before, stay holes.
 */
export class RamImage {
  readonly #entries = new PageEntries();
  readonly #written: WrittenPages;
  readonly #stretch = Buffer.alloc(STRETCH_PAGES * TARGET_PAGE);
  readonly #broken = new Map<number, FormatError>();
  #window: Uint8Array = new Uint8Array(0);
  /** Compressed pages that were broken and that a later entry replaced. */
  repaired = 0;

  private constructor(
    readonly file: RandomAccessFile,
    readonly size: number,
    options: RamImageOptions,
  ) {
    this.#written = new WrittenPages(size, options.bitmapLimit);
  }

  /** Empties the file and makes it one hole of `size` bytes. */
  static async create(
    file: RandomAccessFile,
    size: number,
    options: RamImageOptions = {},
  ): Promise<RamImage> {
    await file.truncate(0);
    await file.truncate(size);
    return new RamImage(file, size, options);
  }

  page(address: number, window: Uint8Array, at: number): void {
    this.#window = window;
    this.#entries.add(PAGE_KIND.PAGE, address, at, TARGET_PAGE, 0);
  }

  /** A page of one repeated byte; QEMU up to 8.1 loads other bytes than zero, 9.0 refuses them. */
  zero(address: number, fill: number): void {
    if (fill === 0) this.#entries.addClear(address, TARGET_PAGE);
    else this.#entries.add(PAGE_KIND.FILL, address, fill, TARGET_PAGE, 0);
  }

  /** @param offset position of the data in the source, for errors */
  xbzrle(address: number, window: Uint8Array, at: number, length: number, offset: number): void {
    this.#window = window;
    this.#entries.add(PAGE_KIND.XBZRLE, address, at, length, offset);
  }

  /** @param offset position of the data in the source, for errors */
  compressed(
    address: number,
    window: Uint8Array,
    at: number,
    length: number,
    offset: number,
  ): void {
    this.#window = window;
    this.#entries.add(PAGE_KIND.COMPRESSED, address, at, length, offset);
  }

  /**
   * Writes what was taken down.
   * @throws FormatError `E_RAM` for an XBZRLE page; what the file throws
   */
  async settle(): Promise<void> {
    const { count, kind, address, length } = this.#entries;
    for (let i = 0; i < count; ) {
      if (kind[i] === PAGE_KIND.CLEAR) {
        await this.#clear(address[i] ?? 0, (length[i] ?? 0) * TARGET_PAGE);
        i++;
      } else {
        i = await this.#writeStretch(i);
      }
    }
    this.#entries.count = 0;
  }

  /**
   * Settles the last entries; the file is complete then.
   *
   * A compressed page that could not be inflated is an error only now, if nothing overwrote it:
   * until 2.12 QEMU compressed pages while the guest changed them, and sent them again
   * (decompress-error-check, migration/ram.c of QEMU 3.0).
   * @throws FormatError `E_RAM`
   */
  async finish(): Promise<void> {
    await this.settle();
    for (const error of this.#broken.values()) throw error;
    await this.file.truncate(this.size);
  }

  /** Pages that follow each other, from entry `i` on: one write. Returns the entry after them. */
  async #writeStretch(i: number): Promise<number> {
    const { count, kind, address } = this.#entries;
    const start = address[i] ?? 0;
    let end = i;
    let needsPrevious = false;
    while (
      end < count &&
      end - i < STRETCH_PAGES &&
      kind[end] !== PAGE_KIND.CLEAR &&
      address[end] === start + (end - i) * TARGET_PAGE
    ) {
      needsPrevious ||= kind[end] === PAGE_KIND.XBZRLE;
      end++;
    }
    const bytes = this.#stretch.subarray(0, (end - i) * TARGET_PAGE);
    if (needsPrevious) await this.#previous(bytes, start);
    for (let k = i; k < end; k++) this.#apply(k, bytes, (k - i) * TARGET_PAGE);
    await this.file.write(bytes, start);
    this.#written.mark(start, bytes.length);
    return end;
  }

  #apply(i: number, bytes: Buffer, to: number): void {
    const { kind, address, at: ats, length: lengths, offset: offsets } = this.#entries;
    const at = ats[i] ?? 0;
    const page = bytes.subarray(to, to + TARGET_PAGE);
    if (kind[i] === PAGE_KIND.PAGE) {
      page.set(this.#window.subarray(at, at + TARGET_PAGE));
    } else if (kind[i] === PAGE_KIND.FILL) {
      page.fill(at);
    } else {
      const packed = this.#window.subarray(at, at + (lengths[i] ?? 0));
      const offset = offsets[i] ?? 0;
      if (kind[i] === PAGE_KIND.XBZRLE) {
        const broken = this.#broken.get(address[i] ?? 0);
        if (broken !== undefined) throw broken;
        decodeXbzrle(packed, page, offset);
        return;
      }
      try {
        page.set(inflatePage(packed, offset));
      } catch (error) {
        this.#remember(address[i] ?? 0, error);
        page.fill(0);
        return;
      }
    }
    this.#replaced(address[i] ?? 0, TARGET_PAGE);
  }

  /** Nothing is wrong any more with the pages that stood there. */
  #replaced(position: number, length: number): void {
    for (let at = position; at < position + length && this.#broken.size > 0; at += TARGET_PAGE) {
      if (this.#broken.delete(at)) this.repaired++;
    }
  }

  #remember(address: number, error: unknown): void {
    if (!(error instanceof FormatError) || this.#broken.size >= MAX_BROKEN) throw error;
    this.#broken.set(address, error);
  }

  /** What the file holds there, without reading what was never written. */
  async #previous(target: Uint8Array, position: number): Promise<void> {
    const end = position + target.length;
    if (this.#written.next(position, end) === end) target.fill(0);
    else await this.#readBack(target, position);
  }

  async #readBack(target: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const count = await this.file.read(target.subarray(done), position + done);
      if (count === 0) {
        target.fill(0, done);
        return;
      }
      done += count;
    }
  }

  /** Makes a range zero: by writing only where something else stands. */
  async #clear(position: number, length: number): Promise<void> {
    const end = position + length;
    this.#replaced(position, length);
    for (let at = this.#written.next(position, end); at < end; ) {
      const bytes = this.#stretch.subarray(0, Math.min(this.#stretch.length, end - at));
      await this.#readBack(bytes, at);
      await this.#writeZeros(bytes, at);
      at = this.#written.next(at + bytes.length, end);
    }
  }

  /** Writes zeros over the pages of `bytes`, which stand at `position`, that are not zero. */
  async #writeZeros(bytes: Buffer, position: number): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const from = at;
      while (at < bytes.length && !ZEROS.equals(bytes.subarray(at, at + TARGET_PAGE))) {
        bytes.fill(0, at, at + TARGET_PAGE);
        at += TARGET_PAGE;
      }
      if (at > from) await this.file.write(bytes.subarray(from, at), position + from);
      else at += TARGET_PAGE;
    }
  }
}

const ZEROS = Buffer.alloc(TARGET_PAGE);

/**
 * A compressed page: a zlib stream of exactly one page (migration/ram-compress.c, QEMU 2.4 to 9.0).
 * @throws FormatError `E_RAM`
 */
function inflatePage(bytes: Uint8Array, offset: number): Uint8Array {
  let page: Uint8Array;
  let cause: unknown;
  try {
    page = inflateSync(bytes, { maxOutputLength: TARGET_PAGE, chunkSize: TARGET_PAGE });
    if (page.length === TARGET_PAGE) return page;
  } catch (error) {
    cause = error;
  }
  throw new FormatError('E_RAM', 'a compressed page is not one page of zlib data', {
    offset,
    path: RAM_SECTION,
    cause,
  });
}
