import { release } from 'node:os';
import { ByteReader, type OperationOptions } from './bytes/reader.js';
import { IterableSource } from './bytes/source.js';
import { spool } from './container/spool.js';
import { UnsupportedError, UsageError } from './errors.js';
import type { HtabFd, PassesOptions } from './fd/htab-fd.js';
import type { EncodeOptions } from './formats/encode.js';
import type { HptFormat } from './formats/format.js';
import type { ByteOrder } from './htab/block.js';
import { boltedOnly } from './htab/bolted.js';
import { Coverage } from './htab/coverage.js';
import type { HtabItem, HtabItems } from './htab/items.js';
import { decodeKernel, encodeKernel } from './htab/kernel.js';
import { orderRequired } from './htab/missing.js';
import { isOrder, MAX_INDEXED_ORDER, noSuchOrder, slotsOfOrder } from './htab/order.js';
import type { InputWarning } from './input.js';
import { formatFor, type HptOutput, partsWarnings, withOutput } from './output.js';

export interface CaptureOptions extends OperationOptions, Pick<EncodeOptions, 'markParts'> {
  /** Output format. Default: by the extension of the output's path. */
  readonly to?: HptFormat | undefined;
  /** Byte order of the block headers of `kernel` output. Default: the host's, as the fd gives them. */
  readonly outputByteOrder?: ByteOrder | undefined;
  /** Order of the table. Default: told by a first pass over all of it. */
  readonly order?: number | undefined;
  /** How many passes at most. Default 1; with `untilQuiet`, no limit. */
  readonly passes?: number | undefined;
  /** End before the pass that finds nothing changed. Default false. */
  readonly untilQuiet?: boolean | undefined;
  /** Keep the bolted entries only, whatever the fd gives. Default false. */
  readonly boltedOnly?: boolean | undefined;
  /** Take what the fd gives even if it is no first pass over all of the table. Default false. */
  readonly partial?: boolean | undefined;
  /** Bytes that a read asks for; see PassOptions. */
  readonly bufferBytes?: number | undefined;
  /** Replace an output file that exists. Default false. */
  readonly force?: boolean | undefined;
}

/** What was captured. Counts are of what was written. */
export interface CaptureResult {
  readonly to: HptFormat;
  /** log2 of the table's size; undefined when nothing told it. */
  readonly order: number | undefined;
  /** Passes that were read; those after the first say what changed. */
  readonly passes: number;
  readonly blocks: number;
  /** Entries, repetitions included. */
  readonly valid: number;
  readonly bytes: number;
  readonly warnings: readonly InputWarning[];
}

/**
 * Reads an HTAB fd into an HPT file. The fd stays open.
 *
 * A table's order is known when a first pass is over; formats that say it at the beginning
 * (`section`, `image`, `archive`) are written from a temporary copy of the blocks then, of at most
 * `spoolBytes`, unless `order` is given.
 * When it fails or is aborted, what it had read is gone, and the fd with it: take a fresh one.
 * @throws UnsupportedError `E_NO_HPT` when the fd gives nothing; UsageError `E_PASS`, `E_EXISTS`,
 *   `E_ORDER`, `E_ORDER_REQUIRED`; IoError; AbortedError
 */
export async function capture(
  fd: HtabFd,
  output: HptOutput,
  options: CaptureOptions = {},
): Promise<CaptureResult> {
  const to = formatFor(output, options.to);
  checkOrder(options.order);
  const reading = new Reading(fd, options);
  const { byteOrder, backend } = fd.descriptor;
  const host = backend === 'native' ? { kernel: release() } : null;
  const tally = await withOutput(output, to, options, (write) =>
    withItems(reading, to, options, (items) =>
      write(() => items, {
        byteOrder: options.outputByteOrder ?? byteOrder,
        markParts: options.markParts,
        order: options.order,
        origin: { source: { kind: 'htab-fd' }, byteOrder, host },
      }),
    ),
  );
  const { passes, order } = reading;
  const { blocks, valid, bytes } = tally;
  const warnings = partsWarnings(to, passes, options.markParts);
  return { to, order, passes, blocks, valid, bytes, warnings };
}

function checkOrder(order: number | undefined): void {
  if (order === undefined) return;
  if (!isOrder(order)) throw noSuchOrder(order);
  if (order <= MAX_INDEXED_ORDER) return;
  throw new UnsupportedError(
    'E_UNSUPPORTED',
    'block headers of the HTAB fd have 32 bits for a slot: no more of this table can be told apart',
    { expected: `order ${MAX_INDEXED_ORDER} at most`, actual: String(order) },
  );
}

/** Hands over the items, beginning with their order where the format needs it. */
async function withItems<T>(
  reading: Reading,
  to: HptFormat,
  options: CaptureOptions,
  use: (items: HtabItems) => Promise<T>,
): Promise<T> {
  if (to === 'kernel' || options.order !== undefined) return use(reading.items());
  const { signal, limits } = options;
  const byteOrder = 'little';
  // The same parts come back: a block of nothing ends each.
  const blocks = encodeKernel(reading.items(), { byteOrder, markParts: true });
  const copy = await spool(new IterableSource(blocks, 'the HTAB fd'), { signal, limits });
  try {
    if (reading.order === undefined) throw orderRequired();
    const reader = new ByteReader(copy, { signal, limits });
    return await use(decodeKernel(reader, { byteOrder, order: reading.order }));
  } finally {
    await copy.close();
  }
}

/** Passes of an fd as items, checked on their way. */
class Reading {
  passes = 0;
  order: number | undefined;

  constructor(
    private readonly fd: HtabFd,
    private readonly options: CaptureOptions,
  ) {
    this.order = options.order;
  }

  items(): HtabItems {
    const items = this.#items();
    return this.options.boltedOnly ? boltedOnly(items) : items;
  }

  async *#items(): AsyncGenerator<HtabItem> {
    const { options } = this;
    const { untilQuiet, order, signal, onProgress, bufferBytes } = options;
    const max = options.passes ?? (untilQuiet ? undefined : 1);
    const wanted: PassesOptions = { max, untilQuiet, signal, onProgress, bufferBytes };
    const coverage = new Coverage();
    const slots = order === undefined ? Number.POSITIVE_INFINITY : slotsOfOrder(order);
    // Of an fd that this process has read before.
    if (this.fd.pass().number > 0 && !options.partial) throw incomplete(order);
    for await (const item of this.fd.items({ ...wanted, order })) {
      if (item.type === 'blocks') {
        item.batch.forEach((index, nValid, nInvalid) => {
          if (index + nValid + nInvalid > slots) throw beyond(slots, index + nValid + nInvalid);
          // At once: what is read from an fd that others read too, they will lack.
          if (coverage.slots === 0 && index > 0 && !options.partial) throw incomplete(order);
          if (this.passes === 0) coverage.add(index, nValid, nInvalid);
        });
      }
      if (item.type === 'end') {
        if (this.passes === 0) this.#checkFirst(coverage);
        this.passes++;
      }
      yield item;
    }
    if (this.passes > 0) return;
    // Nothing had changed, which is an empty part.
    yield { type: 'part', offset: 0 };
    yield { type: 'end', offset: 0 };
  }

  #checkFirst(coverage: Coverage): void {
    const { partial, order } = this.options;
    if (coverage.slots === 0) {
      if (partial) return;
      throw new UnsupportedError(
        'E_NO_HPT',
        'the HTAB fd gives nothing: the guest has no hashed page table (radix), or this fd was read before',
      );
    }
    this.order ??= coverage.order;
    const whole = this.order !== undefined && coverage.slots === slotsOfOrder(this.order);
    if (partial || whole) return;
    // So far the table may be of order 36, or a larger one whose slots begin again at 0.
    if (order === undefined && coverage.slots === 2 ** 32) throw orderRequired();
    throw incomplete(order);
  }
}

function incomplete(order: number | undefined): UsageError {
  return new UsageError(
    'E_PASS',
    'the HTAB fd did not give a first pass over the whole table: it was opened for a part of it, or was read before; take a fresh one, or ask for what there is (--partial)',
    { expected: order === undefined ? undefined : `all of a table of order ${order}` },
  );
}

function beyond(slots: number, end: number): UsageError {
  return new UsageError('E_ORDER', 'the table is larger than the order that was given', {
    expected: `at most ${slots} slots`,
    actual: String(end),
  });
}
