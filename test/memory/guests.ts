import { deflateSync } from 'node:zlib';
import { MemoryFile } from '../../src/memory/memory-file.js';
import {
  command,
  configuration,
  end,
  full,
  header,
  part,
  start,
  str8,
  tail,
  u16,
  u32,
  u64,
} from '../helpers/stream.js';

export const PAGE = 4096;
const FOOTERS = { footers: true };

/** Flags of a word of the `ram` section (migration/ram.c RAM_SAVE_FLAG_*). */
const FLAG = { ZERO: 2, SIZE: 4, PAGE: 8, EOS: 16, SAME: 32, XBZRLE: 64, COMPRESSED: 256 };

/** A page entry: the word, the block's name unless it is the one before, the data. */
function entry(flag: number, block: string | undefined, page: number, ...data: Buffer[]): Buffer {
  const word = u64(page * PAGE + flag + (block === undefined ? FLAG.SAME : 0));
  return Buffer.concat([word, ...(block === undefined ? [] : [str8(block)]), ...data]);
}

/** Entries; `block` undefined: the same as before. */
export const entries = {
  page: (page: number, bytes: Buffer, block?: string) => entry(FLAG.PAGE, block, page, bytes),
  zero: (page: number, fill = 0, block?: string) => entry(FLAG.ZERO, block, page, Buffer.of(fill)),
  /** u8 1, u16 length, delta. */
  xbzrle: (page: number, delta: Buffer, block?: string) =>
    entry(FLAG.XBZRLE, block, page, Buffer.of(1), u16(delta.length), delta),
  /** u32 length, zlib stream. */
  compressed: (page: number, bytes: Buffer, block?: string) => {
    const packed = deflateSync(bytes);
    return entry(FLAG.COMPRESSED, block, page, u32(packed.length), packed);
  },
  /** As `compressed`, with data that need not be a zlib stream. */
  packed: (page: number, data: Buffer, block?: string) =>
    entry(FLAG.COMPRESSED, block, page, u32(data.length), data),
  flush: u64(0x200),
};

export interface GuestOptions {
  readonly blocks?: readonly (readonly [name: string, pages: number])[];
  readonly capabilities?: string[];
  /** What stands behind a block's length in the list. */
  readonly behindLength?: (name: string) => Buffer;
  readonly commands?: Buffer;
}

/** A guest whose RAM comes in these rounds: START with the list, PARTs, the last round in END. */
export function guest(rounds: Buffer[][], options: GuestOptions = {}): Buffer {
  const blocks = options.blocks ?? [['ppc_spapr.ram', 16]];
  const total = blocks.reduce((sum, [, pages]) => sum + pages * PAGE, 0);
  const list = blocks.map(([name, pages]) =>
    Buffer.concat([str8(name), u64(pages * PAGE), options.behindLength?.(name) ?? Buffer.alloc(0)]),
  );
  const eos = u64(FLAG.EOS);
  const payloads = rounds.map((round) => Buffer.concat([...round, eos]));
  const last = payloads.pop() ?? eos;
  return Buffer.concat([
    header(),
    configuration('pseries-7.2', options.capabilities),
    options.commands ?? Buffer.alloc(0),
    start(2, 'ram', 4, Buffer.concat([u64(total + FLAG.SIZE), ...list, eos]), FOOTERS),
    ...payloads.map((payload) => part(2, payload, FOOTERS)),
    end(2, last, FOOTERS),
    full(0, 'timer', 2, Buffer.alloc(24, 0x11), FOOTERS),
    tail([{ name: 'timer', size: 24 }]),
  ]);
}

export const postcopyAdvise = command(3, Buffer.concat([u64(4096), u64(4096)]));

/** A page of one byte, with the page's own mark at its beginning. */
export function pageOf(mark: number): Buffer {
  const page = Buffer.alloc(PAGE, mark);
  page.writeUInt32BE(mark * 0x01000193, 0);
  return page;
}

/** Memory of so many pages, those that are given in place. */
export function memory(pages: number, content: Record<number, Buffer>): Buffer {
  const bytes = Buffer.alloc(pages * PAGE);
  for (const [page, data] of Object.entries(content)) data.copy(bytes, Number(page) * PAGE);
  return bytes;
}

export async function contentOf(file: MemoryFile): Promise<Buffer> {
  const bytes = Buffer.alloc(file.size);
  await file.read(bytes, 0);
  return bytes;
}

/** Remembers which ranges were written, to see holes and the size of writes. */
export class WatchedFile extends MemoryFile {
  readonly writes: [position: number, length: number][] = [];

  override write(bytes: Uint8Array, position: number): Promise<void> {
    this.writes.push([position, bytes.length]);
    return super.write(bytes, position);
  }
}

export interface MappedGuest {
  readonly bytes: Buffer;
  readonly bitmapAt: number;
  readonly pagesAt: number;
}

export interface MappedOptions {
  readonly order?: 'little' | 'big';
  /** Pages that stand in their place without their bit. */
  readonly stale?: Record<number, Buffer>;
  /** Bytes before the stream. */
  readonly prefix?: number;
  /** What the PART has before its end. */
  readonly round?: Buffer;
}

/**
 * A mapped-ram guest (migration/ram.c mapped_ram_setup_ramblock): behind name and length a header
 * of u32 1, u64 page size, u64 bitmap offset, u64 pages offset; the bitmap right behind it; the
 * pages at the next MiB.
 */
export function mappedGuest(
  pages: number,
  content: Record<number, Buffer>,
  options: MappedOptions = {},
): MappedGuest {
  const { order = 'little', stale = {}, prefix = 0, round = Buffer.alloc(0) } = options;
  const name = 'ppc_spapr.ram';
  const head = Buffer.concat([
    Buffer.alloc(prefix, 0x99),
    header(),
    configuration('pseries-10.0', ['mapped-ram']),
  ]);
  const startHead = 1 + 4 + 1 + 3 + 4 + 4;
  const listHead = 8 + 1 + name.length + 8;
  const bitmapAt = head.length + startHead + listHead + 28;
  const bitmap = Buffer.alloc(Math.ceil(pages / 64) * 8);
  for (const page of Object.keys(content).map(Number)) {
    const at = order === 'little' ? page >> 3 : (page >> 6) * 8 + 7 - ((page >> 3) & 7);
    bitmap[at] = (bitmap[at] ?? 0) | (1 << (page & 7));
  }
  const pagesAt = Math.ceil((bitmapAt + bitmap.length) / 0x100000) * 0x100000;
  const mapped = Buffer.concat([u32(1), u64(PAGE), u64(bitmapAt), u64(pagesAt)]);
  const gap = Buffer.alloc(pagesAt - bitmapAt - bitmap.length);
  const region = memory(pages, { ...stale, ...content });
  const list = Buffer.concat([str8(name), u64(pages * PAGE), mapped, bitmap, gap, region]);
  const eos = u64(FLAG.EOS);
  const bytes = Buffer.concat([
    head,
    start(2, 'ram', 4, Buffer.concat([u64(pages * PAGE + FLAG.SIZE), list, eos]), FOOTERS),
    part(2, Buffer.concat([round, eos]), FOOTERS),
    end(2, eos, FOOTERS),
    tail([]),
  ]);
  return { bytes, bitmapAt, pagesAt };
}
