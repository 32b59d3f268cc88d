import type { RandomAccessFile } from '../bytes/output.js';
import type { ByteReader } from '../bytes/reader.js';
import { FormatError } from '../errors.js';
import { FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import type { HtabItem, HtabItems } from './items.js';
import { noHpt, orderRequired } from './missing.js';
import { bytesOfOrder, HPTE_BYTES, orderOfSlots, slotsOfOrder } from './order.js';
import { RunBuilder } from './runs.js';

/**
 * The flat image of an HPT: 2^order bytes, slot after slot, entries big-endian, empty slots zero;
 * what QEMU holds in memory under TCG (hw/ppc/spapr.c spapr_reallocate_hpt).
 */

/** The order that a file of that size is the image of. @throws FormatError `E_IMAGE_SIZE` */
export function orderOfImage(size: number): number {
  const order = orderOfSlots(size / HPTE_BYTES);
  if (order !== undefined) return order;
  throw new FormatError('E_IMAGE_SIZE', 'this is not the size of an HPT image', {
    offset: 0,
    expected: '2^18 to 2^46 bytes, a power of two',
    actual: `${size} bytes`,
  });
}

/**
 * Decodes an image as one part with the valid entries only. Slots that hold something without V
 * are left out, as QEMU leaves them out of a stream (htab_save_first_pass); `onNotValid` is told.
 */
export async function* decodeImage(
  reader: ByteReader,
  order: number,
  onNotValid?: (index: number) => void,
): AsyncGenerator<HtabItem> {
  yield { type: 'order', order, offset: reader.offset };
  yield { type: 'part', offset: reader.offset };
  const runs = new RunBuilder();
  const step = 256 * 1024;
  const zeros = Buffer.alloc(step);
  const start = reader.offset;
  for (let done = 0; done < bytesOfOrder(order); done += step) {
    await reader.ensure(step, 'the HPT image');
    const bytes = reader.buffer.subarray(reader.pos, reader.pos + step);
    if (!zeros.equals(bytes)) {
      for (let at = 0; at < step; at += HPTE_BYTES) {
        const index = (done + at) / HPTE_BYTES;
        if ((bytes[at + FLAGS_BYTE] ?? 0) & FLAG_VALID) runs.valid(index, bytes, at);
        else if (
          onNotValid &&
          !zeros.subarray(0, HPTE_BYTES).equals(bytes.subarray(at, at + HPTE_BYTES))
        )
          onNotValid(index);
      }
    }
    reader.pos += step;
    const batch = runs.full ? runs.take() : undefined;
    if (batch !== undefined) yield { type: 'blocks', batch };
  }
  if (!(await reader.atEnd())) {
    throw new FormatError('E_IMAGE_SIZE', 'bytes follow the HPT image', {
      offset: reader.offset,
      expected: `${bytesOfOrder(order)} bytes`,
      actual: `more, from ${start}`,
    });
  }
  runs.close();
  const batch = runs.take();
  if (batch !== undefined) yield { type: 'blocks', batch };
  yield { type: 'end', offset: reader.offset };
}

const WINDOW = 256 * 1024;

/**
 * Writes the table that the items give as a sparse image, in constant memory: one window of the
 * file is held, and windows without entries are never written.
 * @param order for items that carry none
 * @throws UnsupportedError `E_NO_HPT` for a radix guest; UsageError `E_ORDER_REQUIRED`
 */
export async function writeImage(
  items: HtabItems,
  file: RandomAccessFile,
  order?: number,
): Promise<void> {
  let current = order;
  let radix = false;
  const image = new WindowedImage(file);
  for await (const item of items) {
    if (item.type === 'order') {
      if (current !== undefined) await image.reset();
      current = item.order;
      radix = false;
    } else if (item.type === 'no-hpt') {
      radix = true;
    } else if (item.type === 'blocks') {
      if (current === undefined) throw orderRequired();
      for (const { index, nValid, nInvalid, entries } of item.batch) {
        if (index + nValid + nInvalid > slotsOfOrder(current)) {
          throw new FormatError('E_BLOCK_RANGE', 'a block reaches beyond the table', {
            offset: item.batch.offset,
            expected: `at most ${slotsOfOrder(current)} slots`,
            actual: `index ${index}, ${nValid} valid and ${nInvalid} invalid`,
          });
        }
        if (nValid > 0) await image.set(index * HPTE_BYTES, entries);
        if (nInvalid > 0) {
          await image.clear((index + nValid) * HPTE_BYTES, nInvalid * HPTE_BYTES);
        }
      }
    }
  }
  if (radix) throw noHpt();
  if (current === undefined) throw orderRequired();
  await image.flush();
  await file.truncate(bytesOfOrder(current));
}

/** One window of a sparse file in memory. Positions are bytes. */
class WindowedImage {
  readonly #window = new Uint8Array(WINDOW);
  #number = -1;
  #dirty = false;
  /** Windows that are on disk; the others are holes. */
  readonly #written = new Set<number>();

  constructor(readonly file: RandomAccessFile) {}

  async set(position: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const number = Math.floor((position + done) / WINDOW);
      if (number !== this.#number) await this.#load(number);
      const at = (position + done) % WINDOW;
      const step = Math.min(bytes.length - done, WINDOW - at);
      this.#window.set(bytes.subarray(done, done + step), at);
      this.#dirty = true;
      done += step;
    }
  }

  async clear(position: number, length: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const number = Math.floor((position + done) / WINDOW);
      const at = (position + done) % WINDOW;
      const step = Math.min(length - done, WINDOW - at);
      if (number === this.#number || this.#written.has(number)) {
        if (number !== this.#number) await this.#load(number);
        this.#window.fill(0, at, at + step);
        this.#dirty = true;
      }
      done += step;
    }
  }

  async #load(number: number): Promise<void> {
    await this.flush();
    this.#number = number;
    this.#window.fill(0);
    if (!this.#written.has(number)) return;
    for (let got = 0; got < WINDOW; ) {
      const count = await this.file.read(this.#window.subarray(got), number * WINDOW + got);
      if (count === 0) break;
      got += count;
    }
  }

  async flush(): Promise<void> {
    if (!this.#dirty) return;
    const position = this.#number * WINDOW;
    if (this.#written.has(this.#number)) {
      await this.file.write(this.#window, position);
    } else {
      for (const [from, to] of usedPages(this.#window)) {
        await this.file.write(this.#window.subarray(from, to), position + from);
      }
      this.#written.add(this.#number);
    }
    this.#dirty = false;
  }

  /** Back to an empty table. */
  async reset(): Promise<void> {
    await this.file.truncate(0);
    this.#written.clear();
    this.#number = -1;
    this.#dirty = false;
  }
}

const PAGE = 4096;
const ZERO_PAGE = Buffer.alloc(PAGE);

/** The stretches of a window that are not zero, in whole pages: the rest stays a hole. */
function* usedPages(window: Uint8Array): Generator<[number, number]> {
  let from = -1;
  for (let at = 0; at < window.length; at += PAGE) {
    if (ZERO_PAGE.equals(window.subarray(at, at + PAGE))) {
      if (from >= 0) yield [from, at];
      from = -1;
    } else if (from < 0) {
      from = at;
    }
  }
  if (from >= 0) yield [from, window.length];
}
