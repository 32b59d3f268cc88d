import type { RandomAccessFile } from '../bytes/output.js';
import type { OperationOptions } from '../bytes/reader.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError, UnsupportedError, UsageError } from '../errors.js';
import type { ByteOrder } from '../htab/block.js';
import { SECTION_NAME } from '../htab/section.js';
import type {
  Configuration,
  PayloadWalker,
  SectionEvent,
  StreamWarning,
} from '../qevm/elements.js';
import { hiddenBehind, misplacedPart } from '../qevm/faults.js';
import { RAM_SECTION, type RamBlock, type RamVisitor, RamWalker } from '../qevm/ram.js';
import { readStream } from '../qevm/stream.js';
import { htabWalker } from '../snapshot/htab.js';
import { copyMapped, detectBitmapOrder } from './mapped-ram.js';
import { RamImage } from './ram-image.js';

/** The guest's memory from physical address 0, unless a memory backend of its own name is used. */
export const DEFAULT_RAM_BLOCK = 'ppc_spapr.ram';

export interface ReadRamOptions extends OperationOptions {
  /** Where the stream begins in the source, in bytes. Default 0. */
  readonly start?: number | undefined;
  /** Name of the RAM block. Default: `ppc_spapr.ram`, or the largest one when there is none. */
  readonly block?: string | undefined;
  /**
   * Byte order of the words of a mapped-ram bitmap, that of the host QEMU ran on. Default: told by
   * the pages that are there; `little` where nothing tells.
   */
  readonly bitmapByteOrder?: ByteOrder | undefined;
}

/** Something that the caller should know but that did not stop the work. */
export interface RamWarning {
  readonly code: StreamWarning['code'] | 'W_BROKEN_PAGES' | 'W_BITMAP_ORDER';
  readonly offset: number | undefined;
  readonly message: string;
}

/** What {@link readRam} found. Counts are of entries of the chosen block, of 4 KiB pages each. */
export interface RamResult {
  /** Machine type, when the stream says it. */
  readonly machine: string | undefined;
  /** Name of the RAM block that was read. */
  readonly block: string;
  /** Why this one: the caller named it, it is the usual one, or it is the largest. */
  readonly chosenBy: 'name' | 'default' | 'size';
  /** Bytes: the size of the file. */
  readonly size: number;
  /** Pages in full; of mapped-ram, those that are there. */
  readonly pages: number;
  /** Pages of one repeated byte; none with mapped-ram, which leaves them out. */
  readonly zeroPages: number;
  readonly xbzrlePages: number;
  readonly compressedPages: number;
  /** Whether the pages were in a region of their own (mapped-ram). */
  readonly mapped: boolean;
  /** How the bitmap of mapped-ram was read. */
  readonly bitmapByteOrder: ByteOrder | undefined;
  /** All RAM blocks of the stream. */
  readonly blocks: readonly RamBlock[];
  readonly warnings: readonly RamWarning[];
}

/**
 * Writes the memory of a snapshot's guest, one RAM block of it, into a file: every page as it is
 * after the last entry for it, holes where nothing but zeros was sent. The whole stream is walked,
 * so that damage behind the memory does not go unseen. Memory use does not depend on the guest's.
 *
 * @param file is emptied first. For ppc_spapr.ram, position = guest physical address
 * @throws UsageError `E_BLOCK`, `E_NOT_SEEKABLE` (mapped-ram from a pipe); UnsupportedError
 *   `E_NO_SECTION`, `E_UNSUPPORTED` (the block is shared memory and not in the stream),
 *   `E_SECTION_LENGTH`; FormatError `E_RAM`, `E_TRUNCATED` and what {@link readStream} throws
 */
export async function readRam(
  source: ByteSource,
  options: ReadRamOptions,
  file: RandomAccessFile,
): Promise<RamResult> {
  const { start, signal, onProgress, limits } = options;
  const reading = new RamReading(source, options, file);
  const ram: PayloadWalker<unknown> = (...args) => reading.walker.walk(...args);
  const walkers = new Map([
    [RAM_SECTION, ram],
    [SECTION_NAME, htabWalker() as PayloadWalker<unknown>],
  ]);
  for await (const event of readStream(source, {
    start: start ?? 0,
    signal,
    onProgress,
    limits,
    walkers,
  })) {
    switch (event.type) {
      case 'configuration':
        reading.configuration = event.configuration;
        break;
      case 'warning':
        reading.warnings.push(event.warning);
        break;
      case 'section':
        if (event.section.name === RAM_SECTION) await reading.section(event);
        break;
      case 'opaque':
        if (!reading.ended) throw hiddenBehind('the memory', event.section.name, event.offset);
        break;
    }
  }
  return reading.finish();
}

class RamReading implements RamVisitor {
  readonly walker = new RamWalker(this);
  readonly warnings: RamWarning[] = [];
  configuration: Configuration | undefined;
  ended = false;
  #parts = 0;
  #chosen: RamBlock | undefined;
  #chosenBy: RamResult['chosenBy'] = 'default';
  #image: RamImage | undefined;
  #mappedPages = 0;
  #bitmapByteOrder: ByteOrder | undefined;

  constructor(
    readonly source: ByteSource,
    readonly options: ReadRamOptions,
    readonly file: RandomAccessFile,
  ) {}

  page(block: RamBlock, address: number, buffer: Uint8Array, at: number): void {
    if (block === this.#chosen) this.#image?.page(address, buffer, at);
  }

  zero(block: RamBlock, address: number, fill: number): void {
    if (block === this.#chosen) this.#image?.zero(address, fill);
  }

  xbzrle(b: RamBlock, address: number, buf: Uint8Array, at: number, n: number, off: number): void {
    if (b === this.#chosen) this.#image?.xbzrle(address, buf, at, n, off);
  }

  compressed(b: RamBlock, addr: number, buf: Uint8Array, at: number, n: number, o: number): void {
    if (b === this.#chosen) this.#image?.compressed(addr, buf, at, n, o);
  }

  async section(event: SectionEvent): Promise<void> {
    if ((this.#parts === 0) !== (event.kind === 'start'))
      throw misplacedPart(RAM_SECTION, event.kind, event.offset);
    if (this.#isMappedStream && !this.source.seekable) throw notSeekable(this.source.name);
    this.#parts++;
    this.ended ||= event.kind === 'end';
    for await (const item of event.read((reader, context) => this.walker.walk(reader, context))) {
      if (item.type === 'blocks') await this.#choose(item.blocks, event.payloadOffset);
      else await this.#image?.settle();
    }
  }

  get #isMappedStream(): boolean {
    return this.configuration?.capabilities.includes('mapped-ram') ?? false;
  }

  get #ignoresShared(): boolean {
    return this.configuration?.capabilities.includes('x-ignore-shared') ?? false;
  }

  async #choose(blocks: readonly RamBlock[], offset: number): Promise<void> {
    const chosen = this.#pick(blocks, offset);
    const before = this.#chosen;
    this.#chosen = chosen;
    if (before === undefined) {
      if (this.#isMappedStream && chosen.mapped === undefined) throw notInStream(chosen);
      this.#image = await RamImage.create(this.file, chosen.usedLength);
    } else if (before.name !== chosen.name || before.usedLength !== chosen.usedLength) {
      throw new FormatError('E_RAM', 'a second list of RAM blocks differs from the first', {
        offset,
        path: RAM_SECTION,
        expected: `${before.usedLength} bytes of '${before.name}'`,
        actual: `${chosen.usedLength} bytes of '${chosen.name}'`,
      });
    }
    if (chosen.mapped !== undefined) await this.#copyMapped(chosen, chosen.mapped);
  }

  #pick(blocks: readonly RamBlock[], offset: number): RamBlock {
    const wanted = this.options.block;
    const named = blocks.find(({ name }) => name === (wanted ?? DEFAULT_RAM_BLOCK));
    this.#chosenBy = wanted === undefined ? 'default' : 'name';
    if (named !== undefined) return named;
    if (wanted !== undefined) throw noSuchBlock(wanted, blocks);
    this.#chosenBy = 'size';
    const [first, ...others] = blocks;
    if (first === undefined) {
      throw new FormatError('E_RAM', 'the list of RAM blocks is empty', {
        offset,
        path: RAM_SECTION,
      });
    }
    return others.reduce((a, b) => (b.usedLength > a.usedLength ? b : a), first);
  }

  async #copyMapped(block: RamBlock, region: NonNullable<RamBlock['mapped']>): Promise<void> {
    const { source, options, file } = this;
    const byteOrder =
      options.bitmapByteOrder ?? (await detectBitmapOrder(source, region, block.usedLength));
    const { signal, onProgress } = options;
    this.#bitmapByteOrder = byteOrder ?? 'little';
    this.#mappedPages = await copyMapped(source, region, block.usedLength, file, {
      byteOrder: this.#bitmapByteOrder,
      signal,
      onProgress,
    });
  }

  async finish(): Promise<RamResult> {
    const block = this.#chosen;
    if (block === undefined || this.#image === undefined) throw noSection(this.#parts);
    const { pages, zeroPages, xbzrlePages, compressedPages } = block;
    const entries = pages + zeroPages + xbzrlePages + compressedPages;
    if (
      this.#ignoresShared &&
      entries === 0 &&
      block.mapped === undefined &&
      block.usedLength > 0
    ) {
      throw notInStream(block);
    }
    await this.#image.finish();
    const { repaired } = this.#image;
    if (repaired > 0) {
      const message = `${repaired} compressed pages were broken and were sent again later`;
      this.warnings.push({ code: 'W_BROKEN_PAGES', offset: undefined, message });
    }
    return {
      machine: this.configuration?.machine,
      block: block.name,
      chosenBy: this.#chosenBy,
      size: block.usedLength,
      pages: pages + this.#mappedPages,
      zeroPages,
      xbzrlePages,
      compressedPages,
      mapped: block.mapped !== undefined,
      bitmapByteOrder: this.#bitmapByteOrder,
      blocks: this.walker.blocks,
      warnings: this.warnings,
    };
  }
}

function noSuchBlock(name: string, blocks: readonly RamBlock[]): UsageError {
  const names = blocks.map((block) => `'${block.name}'`).join(', ');
  return new UsageError('E_BLOCK', `the guest has no RAM block '${name}'; it has ${names}`);
}

/** With x-ignore-shared QEMU leaves out what another process can map (migration/ram.c, 4.0). */
function notInStream(block: RamBlock): UnsupportedError {
  return new UnsupportedError(
    'E_UNSUPPORTED',
    `RAM block '${block.name}' is not in the snapshot: it is shared memory, left out by ` +
      'x-ignore-shared; its content is in the file behind its memory backend',
    { path: RAM_SECTION },
  );
}

function notSeekable(name: string): UsageError {
  return new UsageError(
    'E_NOT_SEEKABLE',
    `the pages of a mapped-ram snapshot cannot be read from a pipe; save ${name} to a file first`,
  );
}

function noSection(parts: number): UnsupportedError {
  const what = parts === 0 ? `no section ${RAM_SECTION}` : 'no list of RAM blocks';
  return new UnsupportedError('E_NO_SECTION', `the stream has ${what}`);
}
