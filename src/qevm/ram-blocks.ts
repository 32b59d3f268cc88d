import type { ByteReader } from '../bytes/reader.js';
import { FormatError, UnsupportedError } from '../errors.js';
import { exceeded } from '../limits.js';
import { text } from './configuration.js';
import type { PayloadContext } from './elements.js';

/** The section that carries guest memory (migration/ram.c, QEMU 1.1 to 10.2, version 4). */
export const RAM_SECTION = 'ram';

/** Page unit of the stream: the target's page, 4 KiB for ppc64 (target/ppc/cpu-param.h). */
export const TARGET_PAGE = 4096;

const MAPPED_VERSION = 1;
/** u32 version, then page size, bitmap offset and pages offset as u64, all big-endian. */
export const MAPPED_HEADER_BYTES = 28;

/** Where mapped-ram keeps a block's pages. Positions are absolute in the file. */
export interface MappedRegion {
  /** Where its header stands, of {@link MAPPED_HEADER_BYTES} bytes. */
  readonly headerOffset: number;
  readonly pageSize: number;
  readonly bitmapOffset: number;
  readonly pagesOffset: number;
}

/** A RAM block and what the stream says about it so far. Counts are of target pages. */
export interface RamBlock {
  readonly name: string;
  /** Bytes. */
  readonly usedLength: number;
  /** Host page size, recorded only with the postcopy capability. */
  readonly pageSize: number | undefined;
  /** Guest physical address, recorded only with x-ignore-shared. */
  readonly address: bigint | undefined;
  readonly mapped: MappedRegion | undefined;
  pages: number;
  zeroPages: number;
  xbzrlePages: number;
  compressedPages: number;
}

/**
 * The block list of the START payload: entries until their lengths add up to `total` (migration/
 * ram.c ram_save_setup). Yields each block behind its pages, which mapped-ram puts here, and
 * undefined now and then while it passes over them.
 */
export async function* readBlockList(
  reader: ByteReader,
  total: number,
  context: PayloadContext,
): AsyncGenerator<RamBlock | undefined> {
  const names = new Set<string>();
  for (let left = total; left > 0; ) {
    const offset = reader.offset;
    const name = await readName(reader, 'the name of a RAM block');
    await reader.ensure(8, `the length of RAM block '${name}'`);
    const usedLength = readNumber(reader, 'used length');
    if (usedLength > left) {
      throw new FormatError('E_RAM', 'the RAM blocks are longer than all RAM', {
        offset,
        path: `${RAM_SECTION} / block list`,
        expected: `at most ${left} bytes`,
        actual: `${usedLength} for '${name}'`,
      });
    }
    if (names.has(name)) {
      throw new FormatError('E_RAM', 'a RAM block is listed twice', {
        offset,
        path: `${RAM_SECTION} / block list`,
        actual: JSON.stringify(name),
      });
    }
    if (names.size >= reader.limits.ramBlocks) {
      throw exceeded(reader.limits, 'ramBlocks', 'too many RAM blocks', {
        offset,
        path: `${RAM_SECTION} / block list`,
      });
    }
    left -= usedLength;
    const pageSize = await readPageSize(reader, context);
    let address: bigint | undefined;
    if (context.capabilities.has('x-ignore-shared')) {
      await reader.ensure(8, `the address of RAM block '${name}'`);
      address = reader.u64();
    }
    const mapped = context.capabilities.has('mapped-ram')
      ? await readMapped(reader, usedLength, name)
      : undefined;
    const block: RamBlock = {
      name,
      usedLength,
      pageSize,
      address,
      mapped,
      pages: 0,
      zeroPages: 0,
      xbzrlePages: 0,
      compressedPages: 0,
    };
    names.add(name);
    if (mapped !== undefined) {
      const end = mapped.pagesOffset + usedLength;
      const jump = reader.passOver(end - reader.offset, `the pages of RAM block '${name}'`);
      for await (const _ of jump) yield undefined;
    }
    yield block;
  }
}

/**
 * With the postcopy capability, a block backed by huge pages has its page size behind its
 * length, and nothing says so. It can be told: a page size is a power of two above 4096, so its
 * first byte is zero, where the name of the next block has its length and is never empty; and as
 * the word that follows the list it would have no flag.
 */
async function readPageSize(
  reader: ByteReader,
  context: PayloadContext,
): Promise<number | undefined> {
  if (!context.postcopyAdvised || !(await reader.tryEnsure(8))) return undefined;
  const value = reader.view.getBigUint64(reader.pos);
  const isPageSize = value > BigInt(TARGET_PAGE) && (value & (value - 1n)) === 0n;
  if (!isPageSize || value > 2n ** 40n) return undefined;
  reader.pos += 8;
  return Number(value);
}

/** The header of mapped-ram (struct MappedRamHeader, QEMU 9.0); the bitmap and pages follow. */
async function readMapped(
  reader: ByteReader,
  usedLength: number,
  name: string,
): Promise<MappedRegion | undefined> {
  const what = `the mapped-ram header of RAM block '${name}'`;
  await reader.ensure(MAPPED_HEADER_BYTES, what);
  const offset = reader.offset;
  const version = reader.u32();
  if (version !== MAPPED_VERSION) {
    throw new UnsupportedError('E_UNSUPPORTED', `${what} has an unknown version`, {
      offset,
      expected: String(MAPPED_VERSION),
      actual: String(version),
    });
  }
  const pageSize = readNumber(reader, 'page size');
  const bitmapOffset = readNumber(reader, 'bitmap offset');
  const pagesOffset = readNumber(reader, 'pages offset');
  // QEMU 11.1 writes zeros for blocks that x-ignore-shared leaves out.
  if (bitmapOffset === 0 && pagesOffset === 0) return undefined;
  const bitmapEnd = bitmapOffset + bitmapBytes(usedLength);
  const apart = bitmapOffset >= reader.offset && pagesOffset >= bitmapEnd;
  if (pageSize !== TARGET_PAGE || !apart || pagesOffset % TARGET_PAGE !== 0) {
    throw new FormatError('E_RAM', `${what} makes no sense`, {
      offset,
      expected: `pages of ${TARGET_PAGE} bytes behind a bitmap behind byte ${reader.offset}`,
      actual: `pages of ${pageSize} at ${pagesOffset}, bitmap at ${bitmapOffset}`,
    });
  }
  return { headerOffset: offset, pageSize, bitmapOffset, pagesOffset };
}

/** Writes the header of a region that stands at these places. */
export function encodeMappedHeader(bitmapOffset: number, pagesOffset: number): Uint8Array {
  const bytes = Buffer.alloc(MAPPED_HEADER_BYTES);
  bytes.writeUInt32BE(MAPPED_VERSION, 0);
  bytes.writeBigUInt64BE(BigInt(TARGET_PAGE), 4);
  bytes.writeBigUInt64BE(BigInt(bitmapOffset), 12);
  bytes.writeBigUInt64BE(BigInt(pagesOffset), 20);
  return bytes;
}

/** Bytes of the bitmap of a block: a bit for each page, in words of 64. */
export function bitmapBytes(usedLength: number): number {
  return Math.ceil(usedLength / TARGET_PAGE / 64) * 8;
}

function readNumber(reader: ByteReader, what: string): number {
  const offset = reader.offset;
  const value = reader.u64();
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw new FormatError('E_RAM', `the ${what} is beyond every file`, {
    offset,
    path: `${RAM_SECTION} / block list`,
    actual: String(value),
  });
}

async function readName(reader: ByteReader, what: string): Promise<string> {
  await reader.tryEnsure(256);
  return takeName(reader, what);
}

/** A counted string that is in the window, unless the file ends. */
export function takeName(reader: ByteReader, what: string): string {
  if (reader.available < 1 || reader.available < 1 + reader.peek()) {
    throw reader.truncated(reader.available < 1 ? 1 : 1 + reader.peek(), what);
  }
  return text(reader.take(reader.u8()));
}
