import type { OperationOptions } from '../bytes/reader.js';
import { AbortedError, throwIfAborted, UsageError } from '../errors.js';
import { BlockBatch, encodeBlock } from '../htab/block.js';
import type { HtabItem, HtabItems } from '../htab/items.js';
import { noHpt } from '../htab/missing.js';
import { MAX_INDEXED_ORDER, MIN_ORDER, slotsOfOrder } from '../htab/order.js';
import { type HtabDescriptor, MIN_READ_BYTES } from './descriptor.js';
import { blocksOf, HtabPass, type ReadBlocks } from './pass.js';
import { wholeBlocks } from './pieces.js';
import { type Applied, writeRefused } from './write-error.js';

/** How many bytes a read asks for: two of the largest block. More is not faster on a real kernel. */
const READ_BYTES = 2 * 1024 * 1024;
/** How many bytes of blocks are written before the signal is looked at. */
const WRITE_BYTES = 1024 * 1024;

export interface PassOptions extends OperationOptions {
  /**
   * Bytes that each read asks for, at least 25. Default 2 MiB. The table is the same with any; the
   * smaller, the more blocks it is cut into.
   */
  readonly bufferBytes?: number | undefined;
}

export interface PassesOptions extends PassOptions {
  /** How many passes at most. Default: no limit. */
  readonly max?: number | undefined;
  /** End before the first pass that finds nothing changed. Default false. */
  readonly untilQuiet?: boolean | undefined;
}

/**
 * An HTAB fd, as KVM_PPC_GET_HTAB_FD gives them (Documentation/virt/kvm/api.rst 4.78), of a real
 * kernel, of a table in memory or of a recording.
 *
 * Reading gives the whole table once, then passes with what changed. The kernel has one set of
 * "modified" marks for all fds of a VM: what one fd reported, no other reports again. So read a
 * table with one fd at a time, and not with the one that a migrating QEMU uses.
 */
export class HtabFd<Descriptor extends HtabDescriptor = HtabDescriptor> implements AsyncDisposable {
  /** A read that nobody has taken yet; its blocks may belong to the next pass. */
  #held: ReadBlocks | undefined;
  /** The slot after the last block that was read. */
  #next = 0;
  #pass = 0;
  #bytes = 0;
  #busy = false;

  constructor(
    /** The same fd, byte by byte. */
    readonly descriptor: Descriptor,
    /** Whether it takes blocks; otherwise it gives them. */
    readonly writable: boolean,
  ) {}

  /**
   * Reads one pass, or goes on with one that was not read to its end. A pass ends where the kernel
   * says that nothing is left (a read of 0 bytes) or begins again at a lower slot: with a guest that
   * changes its table all the time, only that happens. Of a recording, a pass is a part.
   * @throws UsageError `E_USAGE` for an fd that is written, a buffer that is too small, or while
   *   another pass is being read
   */
  pass(options: PassOptions = {}): HtabPass {
    this.#mustBe('read');
    const { bufferBytes = READ_BYTES } = options;
    if (!Number.isSafeInteger(bufferBytes) || bufferBytes < MIN_READ_BYTES) {
      throw new UsageError('E_USAGE', 'a read must have room for a block with an entry', {
        expected: `bufferBytes from ${MIN_READ_BYTES} on`,
        actual: String(bufferBytes),
      });
    }
    return new HtabPass(this.#pass, (pass) => this.#readPass(pass, bufferBytes, options));
  }

  /**
   * One pass after another: the first, then what changed. A pass that the caller leaves early is
   * read to its end, so that the next one is the next.
   */
  async *passes(options: PassesOptions = {}): AsyncGenerator<HtabPass> {
    const { max = Number.POSITIVE_INFINITY, untilQuiet = false } = options;
    if (max !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(max) && max >= 1)) {
      throw new UsageError('E_USAGE', 'passes are a whole number from 1 on', {
        actual: String(max),
      });
    }
    for (let count = 0; count < max; count++) {
      const pass = this.pass(options);
      // Whether it is quiet, its first read tells.
      await this.#lookAhead(options);
      if (this.#held === undefined) {
        this.#endPass();
        if (untilQuiet && pass.number > 0) return;
        yield new HtabPass(pass.number, nothing);
        continue;
      }
      yield pass;
      while (this.#pass === pass.number) for await (const _ of this.pass(options));
    }
  }

  /** Passes as items for an encoder: one part each. `order` goes first, where it is given. */
  async *items(
    options: PassesOptions & { order?: number | undefined } = {},
  ): AsyncGenerator<HtabItem> {
    if (options.order !== undefined) yield { type: 'order', order: options.order, offset: 0 };
    for await (const pass of this.passes(options)) {
      yield { type: 'part', offset: this.#bytes };
      for await (const batch of pass) yield { type: 'blocks', batch };
      yield { type: 'end', offset: this.#bytes };
    }
  }

  async #lookAhead(options: PassOptions): Promise<void> {
    this.#mustBeFree();
    this.#busy = true;
    try {
      await this.#read(options);
    } finally {
      this.#busy = false;
    }
  }

  async *#readPass(
    pass: HtabPass,
    bufferBytes: number,
    options: PassOptions,
  ): AsyncGenerator<BlockBatch> {
    this.#mustBeFree();
    // One that has ended has no more.
    if (pass.number !== this.#pass) return;
    this.#busy = true;
    try {
      for (;;) {
        await this.#read({ ...options, bufferBytes });
        const read = this.#held;
        // The kernel begins again at slot 0, without a word, once it came to the end of the table.
        const goesBack = read !== undefined && read.first < this.#next;
        if (read === undefined || (goesBack && !this.descriptor.passesEndWithNothing)) {
          this.#endPass();
          return;
        }
        this.#held = undefined;
        this.#next = read.end;
        pass.count(read);
        yield read.batch;
      }
    } finally {
      this.#busy = false;
    }
  }

  #mustBeFree(): void {
    if (this.#busy) throw new UsageError('E_USAGE', 'another pass of this fd is being read');
  }

  #endPass(): void {
    this.#pass++;
    this.#next = 0;
  }

  /**
   * Sees to it that a read is held, unless there is nothing to be read. It is held before anything
   * else is done that may fail: the kernel does not give it again.
   */
  async #read(options: PassOptions): Promise<void> {
    if (this.#held !== undefined) return;
    throwIfAborted(options.signal);
    const { descriptor } = this;
    const bytes = await descriptor.read(options.bufferBytes ?? READ_BYTES);
    if (bytes.length === 0) return;
    this.#held = blocksOf(bytes, descriptor.byteOrder, this.#bytes);
    this.#bytes += bytes.length;
    options.onProgress?.({ position: this.#bytes, total: undefined });
  }

  /**
   * Writes blocks, one at a time and whole: entries replace what is in their slots, invalid slots
   * are emptied. Stop the guest first.
   * @throws HtabWriteError `E_HTAB_FD`, which says which block was refused, why, and what was
   *   written before it; UsageError `E_USAGE` for an fd that is read; AbortedError between blocks
   */
  async apply(blocks: BlockBatch, options: OperationOptions = {}): Promise<Applied> {
    const applied = { blocks: 0, valid: 0, invalid: 0, bytes: 0 };
    await this.#apply(blocks, applied, options);
    return applied;
  }

  /**
   * Writes the blocks of all parts. Slots that no block mentions stay as they are.
   * @throws as {@link apply}; UnsupportedError `E_NO_HPT` for a guest without HPT
   */
  async applyAll(items: HtabItems, options: OperationOptions = {}): Promise<Applied> {
    const applied = { blocks: 0, valid: 0, invalid: 0, bytes: 0 };
    for await (const item of items) {
      if (item.type === 'no-hpt') throw noHpt();
      if (item.type === 'blocks') await this.#apply(item.batch, applied, options);
    }
    return applied;
  }

  /**
   * Order of the VM's table, for an fd that is written: found out by writing blocks of nothing,
   * which the kernel takes within the table, and beyond it refuses. 36 stands for larger ones too:
   * slots from 2^32 on cannot be named. Undefined when the VM has no HPT, or its guest is in radix
   * mode.
   * @throws HtabWriteError EBUSY while a vCPU runs; UsageError `E_USAGE` for an fd that is read
   */
  async order(): Promise<number | undefined> {
    this.#mustBe('write');
    if (!(await this.#reaches(0))) return undefined;
    for (let order = MIN_ORDER; order < MAX_INDEXED_ORDER; order++) {
      if (!(await this.#reaches(slotsOfOrder(order)))) return order;
    }
    return MAX_INDEXED_ORDER;
  }

  /** Whether the table has that slot. */
  async #reaches(index: number): Promise<boolean> {
    const { byteOrder } = this.descriptor;
    const bytes = encodeBlock({ index, nInvalid: 0, entries: new Uint8Array() }, byteOrder);
    const { errno } = await this.descriptor.writeBlocks(bytes);
    if (errno === undefined || errno === 'EINVAL') return errno === undefined;
    const block = { index, nValid: 0, nInvalid: 0, entries: new Uint8Array() };
    throw writeRefused(errno, block, { blocks: 0, valid: 0, invalid: 0, bytes: 0 }, 0);
  }

  async #apply(batch: BlockBatch, applied: Counts, options: OperationOptions): Promise<void> {
    this.#mustBe('write');
    const { descriptor } = this;
    const bytes = batch.encode(descriptor.byteOrder);
    blocksOf(bytes, descriptor.byteOrder, batch.offset, 'what is to be written');
    let offset = batch.offset;
    for (const piece of wholeBlocks(bytes, descriptor.byteOrder, WRITE_BYTES)) {
      if (options.signal?.aborted) throw abortedAfter(applied, options.signal);
      const written = await descriptor.writeBlocks(piece);
      const taken = blocksOf(piece.subarray(0, written.bytes), descriptor.byteOrder, 0);
      applied.blocks += taken.blocks;
      applied.valid += taken.valid;
      applied.invalid += taken.invalid;
      applied.bytes += taken.bytes;
      options.onProgress?.({ position: applied.bytes, total: undefined });
      if (written.errno !== undefined) {
        const refused = piece.subarray(written.bytes);
        const at = offset + written.bytes;
        for (const block of new BlockBatch(refused, descriptor.byteOrder, 1, at)) {
          throw writeRefused(written.errno, block, { ...applied }, at);
        }
      }
      offset += piece.length;
    }
  }

  #mustBe(mode: 'read' | 'write'): void {
    if (this.writable === (mode === 'write')) return;
    throw new UsageError(
      'E_USAGE',
      this.writable
        ? 'this HTAB fd can only be written; open one without KVM_GET_HTAB_WRITE to read'
        : 'this HTAB fd can only be read; open one with KVM_GET_HTAB_WRITE to write',
    );
  }

  /** Waits for what is in flight. May be called again. */
  close(): Promise<void> {
    return this.descriptor.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

type Counts = { -readonly [K in keyof Applied]: Applied[K] };

async function* nothing(): AsyncGenerator<BlockBatch> {}

function abortedAfter({ blocks, valid }: Applied, signal: AbortSignal): AbortedError {
  const message = `the operation was aborted after ${blocks} blocks with ${valid} entries were written`;
  return new AbortedError('E_ABORTED', message, { cause: signal.reason });
}
