import { PagePasser } from '../bytes/pass-pages.js';
import type { ByteReader } from '../bytes/reader.js';
import { FormatError, UnsupportedError } from '../errors.js';
import type { PayloadContext } from './elements.js';
import {
  bitmapBytes,
  encodeMappedHeader,
  MAPPED_HEADER_BYTES,
  type MappedRegion,
  RAM_SECTION,
  type RamBlock,
  readBlockList,
  TARGET_PAGE,
  takeName,
} from './ram-blocks.js';

export {
  bitmapBytes,
  encodeMappedHeader,
  MAPPED_HEADER_BYTES,
  type MappedRegion,
  RAM_SECTION,
  type RamBlock,
  TARGET_PAGE,
};

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
/** Word, counted name, length and data: no page entry is longer. */
const LARGEST_ENTRY = 8 + 256 + 4 + 2 * TARGET_PAGE;
/** zlib's bound for one page is a few bytes above it (compressBound). */
const MAX_COMPRESSED_PAGE = TARGET_PAGE + (TARGET_PAGE >> 3) + 64;

/** RAM blocks that a message lists; a real guest has about ten. */
const MOST_NAMED = 16;

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
  /** Whether it was said that pages are filled with something else than zero. */
  #filled = false;
  readonly #passer = new PagePasser();

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
    let { view, buffer } = reader;
    const { visitor } = this;
    this.#allMapped = context.capabilities.has('mapped-ram');
    for (;;) {
      // The window is refilled here and nowhere else on the way, where the consumer can follow.
      if (reader.end - reader.pos < LARGEST_ENTRY) {
        yield { type: 'pages' };
        if (visitor === undefined) yield* this.#passPages(reader);
        await reader.tryEnsure(LARGEST_ENTRY);
        await reader.ensure(8, "a page header of 'ram'");
        ({ view, buffer } = reader);
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
          const fill = buffer[reader.pos] ?? 0;
          if (fill !== 0 && !this.#filled) this.#warnOfFill(reader, context);
          visitor?.zero(block, address, fill);
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
          ({ view, buffer } = reader);
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

  /** Passes over pages of the current block where that is faster than looking at them here. */
  async *#passPages(reader: ByteReader): AsyncGenerator<RamItem> {
    const block = this.#current;
    if (block === undefined || this.#allMapped) return;
    for (;;) {
      const passed = await this.#passer.pass(reader, block.usedLength);
      if (passed === undefined) return;
      block.pages += passed.pages;
      block.zeroPages += passed.zeroPages;
      if (!passed.more) return;
      yield { type: 'pages' };
    }
  }

  #warnOfFill(reader: ByteReader, context: PayloadContext): void {
    this.#filled = true;
    const message =
      'pages are filled with other bytes than zero, as QEMU up to 1.4 did; 9.0 and newer refuse it';
    context.warn({ code: 'W_ZERO_FILL', offset: reader.offset, message });
  }

  /** The first few names, for a message: a file may have very many, and long ones. */
  #knownNames(): string {
    const names = [...this.#byName.keys()].slice(0, MOST_NAMED).map((name) => JSON.stringify(name));
    const more = this.#byName.size - names.length;
    return more > 0 ? `${names.join(', ')} or one of ${more} more` : names.join(', ');
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
          expected: this.#knownNames(),
          // Not the name: in a damaged stream it is what stands in memory.
          actual: `another name, of ${name.length} bytes`,
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

  async *#readBlocks(
    reader: ByteReader,
    total: number,
    context: PayloadContext,
  ): AsyncGenerator<RamItem> {
    this.blocks.length = 0;
    this.#byName.clear();
    this.#current = undefined;
    for await (const block of readBlockList(reader, total, context)) {
      if (block === undefined) yield { type: 'pages' };
      else this.#byName.set(block.name, block);
    }
    for (const block of this.#byName.values()) this.blocks.push(block);
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
