import type { RandomAccessFile } from '../bytes/output.js';
import { readFully } from '../bytes/read.js';
import type { OperationOptions } from '../bytes/reader.js';
import type { ByteSource } from '../bytes/source.js';
import { throwIfAborted } from '../errors.js';
import type { ByteOrder } from '../htab/block.js';
import { bitmapBytes, type MappedRegion, TARGET_PAGE } from '../qevm/ram.js';

/**
 * mapped-ram: a block's pages at fixed places of the file, and a bitmap of those that are there;
 * the others are zero, whatever the file has in their place (migration/ram.c
 * mapped_ram_setup_ramblock, ram_save_file_bmap, read_ramblock_mapped_ram, QEMU 9.0 to 10.2).
 *
 * The bitmap is written as the host has it in memory: 64-bit words in the host's byte order, which
 * is recorded nowhere. Bit i is byte i/8, bit i%8 on little-endian hosts; on big-endian ones the
 * bytes of each word stand the other way round.
 */

/** Bytes of bitmap held at a time; they cover 2 GiB of RAM. */
const BITMAP_WINDOW = 64 * 1024;
const COPY_BYTES = 1024 * 1024;
const WORD_BYTES = 8;
/** What the index of a byte is xored with to flip it within its word. */
const BIG = WORD_BYTES - 1;
/** Pages looked at to tell the bitmap's byte order. */
const SAMPLES = 64;

export interface MappedOptions extends OperationOptions {
  readonly byteOrder: ByteOrder;
}

function pagesOf(usedLength: number): number {
  return Math.ceil(usedLength / TARGET_PAGE);
}

/**
 * Copies the pages that are there into a file that is a hole so far, in constant memory.
 * @returns how many pages were there
 * @throws FormatError `E_TRUNCATED`; AbortedError; what source and file throw
 */
export async function copyMapped(
  source: ByteSource,
  region: MappedRegion,
  usedLength: number,
  file: RandomAccessFile,
  options: MappedOptions,
): Promise<number> {
  const buffer = Buffer.allocUnsafeSlow(COPY_BYTES);
  const flip = options.byteOrder === 'big' ? BIG : 0;
  let copied = 0;
  for await (const { bits, firstPage, pages } of bitmapWindows(source, region, usedLength)) {
    for (let at = nextBit(bits, 0, pages, flip, true); at < pages; ) {
      const end = nextBit(bits, at, pages, flip, false);
      const from = (firstPage + at) * TARGET_PAGE;
      const to = Math.min((firstPage + end) * TARGET_PAGE, usedLength);
      for (let position = from; position < to; position += COPY_BYTES) {
        throwIfAborted(options.signal);
        const bytes = buffer.subarray(0, Math.min(COPY_BYTES, to - position));
        await readFully(source, bytes, region.pagesOffset + position, 'a page of mapped RAM');
        await file.write(bytes, position);
        options.onProgress?.({
          position: region.pagesOffset + position + bytes.length,
          total: source.size,
        });
      }
      copied += end - at;
      at = nextBit(bits, end, pages, flip, true);
    }
  }
  return copied;
}

/**
 * Tells the byte order of the bitmap by what it says: bits behind the last page are never set; a
 * page that is there was not zero when it was written, and one that is not was mostly never
 * written. Undefined when nothing tells, for one because both readings are the same.
 */
export async function detectBitmapOrder(
  source: ByteSource,
  region: MappedRegion,
  usedLength: number,
): Promise<ByteOrder | undefined> {
  const padded = await orderByPadding(source, region, usedLength);
  if (padded !== undefined) return padded;
  const votes = { little: 0, big: 0 };
  let looked = 0;
  for await (const { bits, firstPage, pages } of bitmapWindows(source, region, usedLength)) {
    for (let word = 0; word < bits.length && looked < SAMPLES; word += WORD_BYTES) {
      const end = Math.min(pages, (word + WORD_BYTES) * 8);
      for (let bit = word * 8; !isPalindrome(bits, word) && bit < end && looked < SAMPLES; bit++) {
        const little = isSet(bits, bit, 0);
        if (little === isSet(bits, bit, BIG)) continue;
        const there = await isThere(source, region, firstPage + bit);
        votes[there === little ? 'little' : 'big']++;
        looked++;
      }
    }
    if (looked >= SAMPLES) break;
  }
  if (votes.little === votes.big) return undefined;
  return votes.little > votes.big ? 'little' : 'big';
}

/** The reading that leaves the bits behind the last page alone, if the other does not. */
async function orderByPadding(
  source: ByteSource,
  region: MappedRegion,
  usedLength: number,
): Promise<ByteOrder | undefined> {
  const used = pagesOf(usedLength) % (WORD_BYTES * 8);
  if (used === 0) return undefined;
  const word = Buffer.alloc(WORD_BYTES);
  const position = region.bitmapOffset + bitmapBytes(usedLength) - WORD_BYTES;
  await readFully(source, word, position, 'the bitmap of mapped RAM');
  const little = nextBit(word, used, WORD_BYTES * 8, 0, true) === WORD_BYTES * 8;
  const big = nextBit(word, used, WORD_BYTES * 8, BIG, true) === WORD_BYTES * 8;
  if (little === big) return undefined;
  return little ? 'little' : 'big';
}

interface BitmapWindow {
  readonly bits: Uint8Array;
  readonly firstPage: number;
  /** Pages that the window is about; bits behind them are padding. */
  readonly pages: number;
}

async function* bitmapWindows(
  source: ByteSource,
  region: MappedRegion,
  usedLength: number,
): AsyncGenerator<BitmapWindow> {
  const total = bitmapBytes(usedLength);
  const window = Buffer.allocUnsafeSlow(Math.min(BITMAP_WINDOW, total));
  for (let done = 0; done < total; done += window.length) {
    const bits = window.subarray(0, Math.min(window.length, total - done));
    await readFully(source, bits, region.bitmapOffset + done, 'the bitmap of mapped RAM');
    const firstPage = done * 8;
    const pages = Math.min(bits.length * 8, pagesOf(usedLength) - firstPage);
    yield { bits, firstPage, pages };
  }
}

async function isThere(source: ByteSource, region: MappedRegion, page: number): Promise<boolean> {
  const bytes = Buffer.allocUnsafe(TARGET_PAGE);
  await readFully(source, bytes, region.pagesOffset + page * TARGET_PAGE, 'a page of mapped RAM');
  return bytes.some((byte) => byte !== 0);
}

function isSet(bits: Uint8Array, i: number, flip: number): boolean {
  return (((bits[(i >>> 3) ^ flip] ?? 0) >>> (i & 7)) & 1) === 1;
}

function isPalindrome(bits: Uint8Array, word: number): boolean {
  return (
    bits[word] === bits[word + 7] &&
    bits[word + 1] === bits[word + 6] &&
    bits[word + 2] === bits[word + 5] &&
    bits[word + 3] === bits[word + 4]
  );
}

/** The first bit from `from` on that is as wanted, or `end`. */
function nextBit(
  bits: Uint8Array,
  from: number,
  end: number,
  flip: number,
  wanted: boolean,
): number {
  const skip = wanted ? 0x00 : 0xff;
  for (let i = from; i < end; ) {
    if ((i & 7) === 0 && bits[(i >>> 3) ^ flip] === skip) {
      i += 8;
    } else if (isSet(bits, i, flip) === wanted) {
      return i;
    } else {
      i++;
    }
  }
  return end;
}
