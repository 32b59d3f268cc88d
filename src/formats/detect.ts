import { abortable } from '../bytes/abort.js';
import { type ByteSource, RETAINED_HEAD } from '../bytes/source.js';
import { FormatError } from '../errors.js';
import { HEADER_BYTES } from '../htab/block.js';
import { FLAG_VALID, FLAGS_BYTE, isZeroEntry } from '../htab/hpte.js';
import { HPTE_BYTES, isOrder, orderOfSlots } from '../htab/order.js';
import {
  type ByteOrderVerdict,
  type Reading,
  sniffByteOrder,
  tellingHeader,
} from '../htab/sniff.js';
import type { InputFormat } from './format.js';

/** How much of a file is looked at. */
const HEAD_BYTES = 1024 * 1024;
/** How much where that cannot tell the byte order of HTAB blocks: a few of the longest. */
const LONG_HEAD_BYTES = RETAINED_HEAD;

/** The beginning of a file. */
export class Head {
  readonly #verdicts = new Map<number | undefined, ByteOrderVerdict>();

  constructor(
    readonly bytes: Buffer,
    /** Whether that is the whole file. */
    readonly whole: boolean,
  ) {}

  /** What it is as HTAB blocks of a table of that order, where it is known. */
  sniff(order: number | undefined): ByteOrderVerdict {
    let verdict = this.#verdicts.get(order);
    if (verdict === undefined) {
      verdict = sniffByteOrder(this.bytes, this.whole, order);
      this.#verdicts.set(order, verdict);
    }
    return verdict;
  }
}

/**
 * Reads the beginning of a source, which stays readable: 1 MiB, and where that is HTAB blocks whose
 * headers read the same in both byte orders, up to 4 MiB to have one that does not.
 */
export async function readHead(source: ByteSource, start = 0, signal?: AbortSignal): Promise<Head> {
  // Of a pipe, what is read beyond what it keeps would be gone.
  const kept = source.seekable || start >= RETAINED_HEAD ? LONG_HEAD_BYTES : RETAINED_HEAD - start;
  let head = await readOn(source, start, Buffer.alloc(0), Math.min(HEAD_BYTES, kept), signal);
  for (;;) {
    const needed = tellingHeader(head.bytes) + HEADER_BYTES;
    const { length } = head.bytes;
    if (head.whole || needed <= length || needed > kept) return head;
    head = await readOn(source, start, head.bytes, needed, signal);
  }
}

/** Reads on behind `bytes` until there are `most`, or all. */
async function readOn(
  source: ByteSource,
  start: number,
  bytes: Buffer,
  most: number,
  signal: AbortSignal | undefined,
): Promise<Head> {
  const buffer = Buffer.alloc(most);
  let length = bytes.copy(buffer);
  while (length < buffer.length) {
    const reading = source.read(buffer.subarray(length), start + length);
    const count = await abortable(reading, signal);
    if (count === 0) return new Head(buffer.subarray(0, length), true);
    length += count;
  }
  return new Head(buffer, source.size === start + length);
}

/**
 * Tells what a file is by its content; names do not matter.
 * @param order the order of the table where it is known: it helps to tell byte orders apart
 * @throws FormatError `E_TRUNCATED` for an empty file, `E_MAGIC` for one that is nothing known
 */
export function detectFormat(head: Head, size: number | undefined, order?: number): InputFormat {
  const { bytes } = head;
  if (bytes.length === 0) {
    // A guest whose table was empty gives no block; its order says that it had one.
    if (order !== undefined) return 'kernel';
    throw new FormatError('E_TRUNCATED', 'the file is empty; say what it is with --from', {
      offset: 0,
    });
  }
  if (bytes.toString('latin1', 0, 4) === 'QEVM') return 'snapshot';
  if (looksLikeArchive(bytes)) return 'archive';
  if (looksLikeSection(bytes)) return 'section';
  const verdict = head.sniff(order);
  const fits = size !== undefined && orderOfSlots(size / HPTE_BYTES) !== undefined;
  const image = fits && looksLikeImage(bytes);
  // The zeros of an image read as marks, and an entry behind them as a block: then only a first
  // pass, which has no gaps, speaks for blocks.
  const { little, big } = verdict;
  const firstPass = [little, big].some((reading) => !reading.fault && reading.contiguous);
  if (verdict.byteOrder !== 'neither' && (firstPass || !image)) return 'kernel';
  if (image) return 'image';
  const best = bestReading(verdict);
  const stream = bytes.indexOf('QEVM\0\0\0\x03', 0, 'latin1');
  if (stream > 0) {
    throw new FormatError(
      'E_MAGIC',
      `a QEMU migration stream begins inside this file; read it from there (--offset ${stream})`,
      { offset: stream },
    );
  }
  throw new FormatError('E_MAGIC', 'the file is nothing that holds an HPT', {
    offset: best.fault?.offset ?? 0,
    expected: 'a QEMU snapshot, HTAB blocks, spapr/htab payloads, an HPT image or archive',
    // No more than a magic has: it may be a guest's memory.
    actual: `bytes ${bytes.toString('hex', 0, 4)}; as HTAB blocks ${best.fault?.reason ?? ''}`,
  });
}

/** The byte order that made sense of more bytes. */
export function bestReading({ little, big }: ByteOrderVerdict): Reading {
  return (big.fault?.offset ?? 0) > (little.fault?.offset ?? 0) ? big : little;
}

/** A MessagePack map whose first bytes name the format; the order of its keys is free. */
function looksLikeArchive(bytes: Buffer): boolean {
  const type = bytes[0] ?? 0;
  if ((type & 0xf0) !== 0x80 && type !== 0xde && type !== 0xdf) return false;
  const text = bytes.toString('latin1', 0, 4096);
  return text.includes('\xa6format\xaaspapr-htab');
}

/**
 * Whether these are entries of a table: of the slots that hold something, nearly all have V set,
 * and all of those a segment size that exists. An empty table is nothing but zeros.
 */
function looksLikeImage(bytes: Buffer): boolean {
  let used = 0;
  let valid = 0;
  for (let at = 0; at + HPTE_BYTES <= bytes.length; at += HPTE_BYTES) {
    if (isZeroEntry(bytes, at)) continue;
    used++;
    if (!((bytes[at + FLAGS_BYTE] ?? 0) & FLAG_VALID)) continue;
    if ((bytes[at] ?? 0) >= 0x80) return false;
    valid++;
  }
  return valid >= used * 0.9;
}

/**
 * An order word or -1, and then nothing, or the 0 or -1 of the next payload: as HTAB blocks, that
 * would be a block that counts nothing, or 65535 entries of either kind beyond the largest table.
 */
function looksLikeSection(bytes: Buffer): boolean {
  if (bytes.length < 4) return false;
  const isFirst = (word: number): boolean => isOrder(word) || word === 0xffffffff;
  if (!isFirst(bytes.readUInt32BE(0))) return false;
  if (bytes.length < 8) return true;
  const second = bytes.readUInt32BE(4);
  return second === 0 || (second === 0xffffffff && bytes.readUInt32BE(0) === second);
}
