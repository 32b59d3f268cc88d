import type { ByteReader } from '../bytes/reader.js';
import { FormatError, LimitError, UnsupportedError } from '../errors.js';
import { text } from './configuration.js';
import type { PayloadContext } from './elements.js';

/** The section that carries guest memory (migration/ram.c, QEMU 1.1 to 10.2, version 4). */
export const RAM_SECTION = 'ram';

/** Page unit of the stream: the target's page, 4 KiB for ppc64 (target/ppc/cpu-param.h). */
export const TARGET_PAGE = 4096;

/** Low bits of each u64 word; the rest is an offset within a RAM block (RAM_SAVE_FLAG_*). */
export const RAM_FLAG = {
  ZERO: 0x002,
  MEM_SIZE: 0x004,
  PAGE: 0x008,
  EOS: 0x010,
  CONTINUE: 0x020,
  XBZRLE: 0x040,
  HOOK: 0x080,
  COMPRESS_PAGE: 0x100,
  MULTIFD_FLUSH: 0x200,
} as const;

const FLAGS_MASK = TARGET_PAGE - 1;
const MAX_BLOCKS = 65536;
/** Word, counted name, length and data: no page entry is longer. */
const LARGEST_ENTRY = 8 + 256 + 4 + 2 * TARGET_PAGE;
const MAPPED_HEADER_BYTES = 28;
/** zlib's bound for one page is a few bytes above it (compressBound). */
const MAX_COMPRESSED_PAGE = TARGET_PAGE + (TARGET_PAGE >> 3) + 64;

/** Where mapped-ram keeps a block's pages. Positions are absolute in the file. */
export interface MappedRegion {
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

/** What a walk over `ram` payloads yields: a sign of life, a window at a time. */
export type RamItem =
  | { readonly type: 'blocks'; readonly blocks: readonly RamBlock[] }
  | { readonly type: 'pages' }
  | { readonly type: 'eos'; readonly offset: number };

/**
 * Told of each page entry as the walk passes it, in stream order. Addresses are offsets in the
 * block; `buffer` is the walk's window and stays as it is until the walk goes on after its next
 * item, so work that waits is done there. `offset` is the position of the data in the source.
 */
export interface RamVisitor {
  /** One page as it is, at `buffer[at]`. */
  page(block: RamBlock, address: number, buffer: Uint8Array, at: number): void;
  /** A page of one repeated byte: 0, or any by writers up to QEMU 1.4. */
  zero(block: RamBlock, address: number, fill: number): void;
  /** `length` bytes at `buffer[at]`: a change to what the page was before. */
  xbzrle: PackedPageListener;
  /** `length` bytes at `buffer[at]`: the page as a zlib stream. */
  compressed: PackedPageListener;
}

type PackedPageListener = (
  block: RamBlock,
  address: number,
  buffer: Uint8Array,
  at: number,
  length: number,
  offset: number,
) => void;

/** Walks `ram` payloads without holding them; block list and current block outlive a payload. */
export class RamWalker {
  readonly blocks: RamBlock[] = [];
  readonly #byName = new Map<string, RamBlock>();
  #current: RamBlock | undefined;
  /** With mapped-ram, pages are in their regions and nowhere else. */
  #allMapped = false;

  constructor(readonly visitor?: RamVisitor) {}

  /** @throws FormatError `E_RAM`, `E_TRUNCATED`; UnsupportedError for RDMA hooks */
  async *walk(reader: ByteReader, context: PayloadContext): AsyncGenerator<RamItem> {
    if (context.section.version !== 4) {
      throw new UnsupportedError('E_UNSUPPORTED', 'this version of the ram section is not known', {
        offset: reader.offset,
        path: RAM_SECTION,
        expected: 'version 4',
        actual: String(context.section.version),
      });
    }
    const { view, buffer } = reader;
    const { visitor } = this;
    this.#allMapped = context.capabilities.has('mapped-ram');
    for (;;) {
      // The window is refilled here and nowhere else on the way, where the consumer can follow.
      if (reader.end - reader.pos < LARGEST_ENTRY) {
        yield { type: 'pages' };
        await reader.tryEnsure(LARGEST_ENTRY);
        await reader.ensure(8, "a page header of 'ram'");
      }
      const offset = reader.offset;
      const high = view.getUint32(reader.pos);
      const low = view.getUint32(reader.pos + 4);
      const address = high * 2 ** 32 + (low - (low & FLAGS_MASK));
      const flags = low & FLAGS_MASK;
      reader.pos += 8;
      switch (flags & ~RAM_FLAG.CONTINUE) {
        case RAM_FLAG.PAGE: {
          const block = this.#block(reader, flags, address, offset);
          if (reader.end - reader.pos < TARGET_PAGE) {
            throw reader.truncated(TARGET_PAGE, `a page of RAM block '${block.name}'`);
          }
          visitor?.page(block, address, buffer, reader.pos);
          reader.pos += TARGET_PAGE;
          block.pages++;
          break;
        }
        case RAM_FLAG.ZERO: {
          const block = this.#block(reader, flags, address, offset);
          if (reader.pos === reader.end) {
            throw reader.truncated(1, `a zero page of RAM block '${block.name}'`);
          }
          visitor?.zero(block, address, buffer[reader.pos] ?? 0);
          reader.pos += 1;
          block.zeroPages++;
          break;
        }
        case RAM_FLAG.XBZRLE: {
          const block = this.#block(reader, flags, address, offset);
          const length = xbzrleLength(reader);
          visitor?.xbzrle(block, address, buffer, reader.pos, length, reader.offset);
          reader.pos += length;
          block.xbzrlePages++;
          break;
        }
        case RAM_FLAG.COMPRESS_PAGE: {
          const block = this.#block(reader, flags, address, offset);
          const length = compressedLength(reader);
          visitor?.compressed(block, address, buffer, reader.pos, length, reader.offset);
          reader.pos += length;
          block.compressedPages++;
          break;
        }
        case RAM_FLAG.MEM_SIZE:
          yield { type: 'pages' };
          yield* this.#readBlocks(reader, address, context);
          yield { type: 'blocks', blocks: this.blocks };
          break;
        case RAM_FLAG.MULTIFD_FLUSH:
          break;
        case RAM_FLAG.EOS:
          yield { type: 'eos', offset };
          return;
        case RAM_FLAG.HOOK:
          throw new UnsupportedError('E_UNSUPPORTED', 'RDMA hooks mean nothing in a file', {
            offset,
            path: RAM_SECTION,
          });
        default:
          throw new FormatError('E_RAM', 'a word of the ram section has no meaning', {
            offset,
            path: RAM_SECTION,
            expected: 'one of PAGE, ZERO, XBZRLE, COMPRESS_PAGE, MEM_SIZE, MULTIFD_FLUSH, EOS',
            actual: `flags 0x${flags.toString(16)}`,
          });
      }
    }
  }

  /** The block that a page entry belongs to: named by it, or the one before. */
  #block(reader: ByteReader, flags: number, address: number, offset: number): RamBlock {
    if (!(flags & RAM_FLAG.CONTINUE)) {
      const name = takeName(reader, 'the name of a RAM block');
      this.#current = this.#byName.get(name);
      if (this.#current === undefined) {
        throw new FormatError('E_RAM', 'a page belongs to a RAM block that the list lacks', {
          offset: offset + 8,
          path: RAM_SECTION,
          actual: JSON.stringify(name),
        });
      }
    }
    const block = this.#current;
    if (block === undefined) {
      throw new FormatError('E_RAM', 'a page continues a RAM block, but none was named', {
        offset,
        path: RAM_SECTION,
      });
    }
    if (this.#allMapped) {
      throw new FormatError('E_RAM', 'a page stands in the stream in spite of mapped-ram', {
        offset,
        path: RAM_SECTION,
      });
    }
    if (address >= block.usedLength) {
      throw new FormatError('E_RAM', `a page lies beyond RAM block '${block.name}'`, {
        offset,
        path: RAM_SECTION,
        expected: `below ${block.usedLength}`,
        actual: String(address),
      });
    }
    return block;
  }

  /** The block list of the START payload: entries until their lengths add up to `total`. */
  async *#readBlocks(
    reader: ByteReader,
    total: number,
    context: PayloadContext,
  ): AsyncGenerator<RamItem> {
    this.blocks.length = 0;
    this.#byName.clear();
    this.#current = undefined;
    for (let left = total; left > 0; ) {
      const offset = reader.offset;
      const name = await readName(reader, 'the name of a RAM block');
      await reader.ensure(8, `the length of RAM block '${name}'`);
      const usedLength = this.#number(reader, 'used length');
      if (usedLength > left) {
        throw new FormatError('E_RAM', 'the RAM blocks are longer than all RAM', {
          offset,
          path: `${RAM_SECTION} / block list`,
          expected: `at most ${left} bytes`,
          actual: `${usedLength} for '${name}'`,
        });
      }
      if (this.#byName.has(name)) {
        throw new FormatError('E_RAM', 'a RAM block is listed twice', {
          offset,
          path: `${RAM_SECTION} / block list`,
          actual: JSON.stringify(name),
        });
      }
      if (this.blocks.length >= MAX_BLOCKS) {
        throw new LimitError('E_LIMIT', 'too many RAM blocks', {
          offset,
          path: `${RAM_SECTION} / block list`,
          expected: `at most ${MAX_BLOCKS}`,
        });
      }
      left -= usedLength;
      const pageSize = await this.#readPageSize(reader, context);
      let address: bigint | undefined;
      if (context.capabilities.has('x-ignore-shared')) {
        await reader.ensure(8, `the address of RAM block '${name}'`);
        address = reader.u64();
      }
      const mapped = context.capabilities.has('mapped-ram')
        ? await this.#readMapped(reader, usedLength, name)
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
      this.blocks.push(block);
      this.#byName.set(name, block);
      if (mapped !== undefined) {
        const end = mapped.pagesOffset + usedLength;
        const jump = reader.passOver(end - reader.offset, `the pages of RAM block '${name}'`);
        for await (const _ of jump) yield { type: 'pages' };
      }
    }
  }

  /**
   * With the postcopy capability, a block backed by huge pages has its page size behind its
   * length, and nothing says so. It can be told: a page size is a power of two above 4096, so its
   * first byte is zero, where the name of the next block has its length and is never empty; and as
   * the word that follows the list it would have no flag.
   */
  async #readPageSize(reader: ByteReader, context: PayloadContext): Promise<number | undefined> {
    if (!context.postcopyAdvised || !(await reader.tryEnsure(8))) return undefined;
    const value = reader.view.getBigUint64(reader.pos);
    const isPageSize = value > BigInt(TARGET_PAGE) && (value & (value - 1n)) === 0n;
    if (!isPageSize || value > 2n ** 40n) return undefined;
    reader.pos += 8;
    return Number(value);
  }

  /** The header of mapped-ram (struct MappedRamHeader, QEMU 9.0); the bitmap and pages follow. */
  async #readMapped(
    reader: ByteReader,
    usedLength: number,
    name: string,
  ): Promise<MappedRegion | undefined> {
    const what = `the mapped-ram header of RAM block '${name}'`;
    await reader.ensure(MAPPED_HEADER_BYTES, what);
    const offset = reader.offset;
    const version = reader.u32();
    if (version !== 1) {
      throw new UnsupportedError('E_UNSUPPORTED', `${what} has an unknown version`, {
        offset,
        expected: '1',
        actual: String(version),
      });
    }
    const pageSize = this.#number(reader, 'page size');
    const bitmapOffset = this.#number(reader, 'bitmap offset');
    const pagesOffset = this.#number(reader, 'pages offset');
    // QEMU 11.1 writes zeros for blocks that x-ignore-shared leaves out.
    if (bitmapOffset === 0 && pagesOffset === 0) return undefined;
    const bitmapEnd = bitmapOffset + Math.ceil(usedLength / TARGET_PAGE / 64) * 8;
    const apart = bitmapOffset >= reader.offset && pagesOffset >= bitmapEnd;
    if (pageSize !== TARGET_PAGE || !apart || pagesOffset % TARGET_PAGE !== 0) {
      throw new FormatError('E_RAM', `${what} makes no sense`, {
        offset,
        expected: `pages of ${TARGET_PAGE} bytes behind a bitmap behind byte ${reader.offset}`,
        actual: `pages of ${pageSize} at ${pagesOffset}, bitmap at ${bitmapOffset}`,
      });
    }
    return { pageSize, bitmapOffset, pagesOffset };
  }

  #number(reader: ByteReader, what: string): number {
    const offset = reader.offset;
    const value = reader.u64();
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
    throw new FormatError('E_RAM', `the ${what} is beyond every file`, {
      offset,
      path: `${RAM_SECTION} / block list`,
      actual: String(value),
    });
  }
}

/** Takes the header of an XBZRLE page, whose data is in the window then (ram.c load_xbzrle). */
function xbzrleLength(reader: ByteReader): number {
  const what = 'an XBZRLE page';
  if (reader.available < 3) throw reader.truncated(3, what);
  const offset = reader.offset;
  const encoding = reader.u8();
  const length = reader.u16();
  if (encoding !== 1 || length > TARGET_PAGE) {
    throw new FormatError('E_RAM', 'an XBZRLE page has a wrong header', {
      offset,
      path: RAM_SECTION,
      expected: `encoding 1, at most ${TARGET_PAGE} bytes`,
      actual: `encoding ${encoding}, ${length} bytes`,
    });
  }
  if (reader.available < length) throw reader.truncated(length, what);
  return length;
}

/** Takes the length of a compressed page, whose data is in the window then (ram-compress.c). */
function compressedLength(reader: ByteReader): number {
  const what = 'a compressed page';
  if (reader.available < 4) throw reader.truncated(4, what);
  const offset = reader.offset;
  const length = reader.u32();
  if (length > MAX_COMPRESSED_PAGE) {
    throw new FormatError('E_RAM', 'a compressed page is longer than a page can get', {
      offset,
      path: RAM_SECTION,
      expected: `at most ${MAX_COMPRESSED_PAGE} bytes`,
      actual: String(length),
    });
  }
  if (reader.available < length) throw reader.truncated(length, what);
  return length;
}

async function readName(reader: ByteReader, what: string): Promise<string> {
  await reader.tryEnsure(256);
  return takeName(reader, what);
}

/** A counted string that is in the window, unless the file ends. */
function takeName(reader: ByteReader, what: string): string {
  if (reader.available < 1 || reader.available < 1 + reader.peek()) {
    throw reader.truncated(reader.available < 1 ? 1 : 1 + reader.peek(), what);
  }
  return text(reader.take(reader.u8()));
}
