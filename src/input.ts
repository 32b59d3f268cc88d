import type { ArchiveHeader } from './archive/schema.js';
import { ByteReader, type OperationOptions } from './bytes/reader.js';
import { type ByteSource, openFile } from './bytes/source.js';
import {
  type ContainerLayer,
  type ContainerOptions,
  type OpenedContainer,
  openContainer,
} from './container/open.js';
import { spool } from './container/spool.js';
import { FormatError, UsageError } from './errors.js';
import { bestReading, detectFormat, type Head, readHead } from './formats/detect.js';
import { type EncodeOptions, encodeHpt, type StreamedFormat } from './formats/encode.js';
import { FORMAT_NAMES, type InputFormat } from './formats/format.js';
import type { ByteOrder } from './htab/block.js';
import { Coverage } from './htab/coverage.js';
import { decodeImage, orderOfImage } from './htab/image.js';
import type { HtabItem } from './htab/items.js';
import { decodeKernel } from './htab/kernel.js';
import { checkOrder, isOrder, noSuchOrder } from './htab/order.js';
import type { BlockPass } from './htab/scan.js';
import { decodeSection } from './htab/section.js';
import { sniffByteOrder } from './htab/sniff.js';
import { HashPageTable } from './htab/table.js';
import { limitsOf } from './limits.js';
import { LITTLE_ENDIAN, readSnapshotHtab } from './snapshot/htab.js';

export interface OpenOptions extends OperationOptions {
  /** What the input is. Default: told by its content. */
  readonly from?: InputFormat | undefined;
  /** Byte order of the block headers of `kernel` input. Default: told by its content. */
  readonly byteOrder?: ByteOrder | undefined;
  /**
   * Order of the table, for input that does not say it: HTAB blocks, unless they are a complete
   * first pass. For other input it must be the order that the input has.
   */
  readonly order?: number | undefined;
  /** ID or name of the internal snapshot of a qcow2 image. Default: the only one. */
  readonly snapshot?: string | undefined;
  /** Where the data begins in a larger file, in bytes. Default 0. */
  readonly offset?: number | undefined;
  /** Whether `layers` carry the XML and the cookie of a libvirt image. Default false. */
  readonly xml?: boolean | undefined;
}

/** Something that the caller should know but that did not stop the work. */
export interface InputWarning {
  readonly code: string;
  readonly offset: number | undefined;
  readonly message: string;
}

/**
 * Opens whatever holds an HPT: a QEMU snapshot in any container, or an HPT file of its own.
 * Close it with `await using` or `close()`.
 *
 * @param input a path, or a source that is closed with the result
 * @throws IoError; FormatError `E_MAGIC`; UnsupportedError `E_CONTAINER`; UsageError `E_AMBIGUOUS`
 */
export async function openHpt(
  input: string | ByteSource,
  options: OpenOptions = {},
): Promise<HptInput> {
  const outer = typeof input === 'string' ? await openFile(input) : input;
  return openInside(await openContainer(outer, containerOptions(options)), options);
}

/** What of the options concerns the containers. */
export function containerOptions(options: OpenOptions): ContainerOptions {
  const { snapshot, offset, signal, limits, onProgress, xml } = options;
  return { snapshot, offset, signal, limits, onProgress, xml };
}

/** A source that can be read anywhere: the same, or a temporary copy of at most `spoolBytes`. */
export async function seekable(source: ByteSource, options: OperationOptions): Promise<ByteSource> {
  if (source.seekable || limitsOf(options.limits).spoolBytes > 0) return spool(source, options);
  await source.close();
  throw new UsageError(
    'E_NOT_SEEKABLE',
    `${source.name} can only be read forward; save it to a file, or allow a temporary copy`,
  );
}

/** Recognises what stands inside containers that are open. Closes them when that fails. */
export async function openInside(
  container: OpenedContainer,
  options: OpenOptions,
): Promise<HptInput> {
  try {
    if (options.order !== undefined && !isOrder(options.order)) {
      throw noSuchOrder(options.order);
    }
    const head = await readHead(container.source, container.start, options.signal);
    const { format, byteOrder } = recognise(head, container.source, container.start, options);
    return new HptInput({ ...container, format, byteOrder, options, head });
  } catch (error) {
    await container.close();
    throw error;
  }
}

function recognise(
  head: Head,
  source: ByteSource,
  start: number,
  options: OpenOptions,
): { format: InputFormat; byteOrder: ByteOrder | undefined } {
  const size = source.size === undefined ? undefined : source.size - start;
  const { from } = options;
  if (from !== undefined && from !== 'kernel') return { format: from, byteOrder: undefined };
  const format = from ?? detectFormat(head, size, options.order);
  if (format !== 'kernel') return { format, byteOrder: undefined };
  return { format: 'kernel', byteOrder: options.byteOrder ?? tellByteOrder(head, options) };
}

function tellByteOrder(head: Head, options: OpenOptions): ByteOrder {
  // No block, no byte order.
  if (head.whole && head.bytes.every((byte) => byte === 0)) return 'little';
  const verdict = head.sniff(options.order);
  if (verdict.byteOrder === 'ambiguous') {
    throw new UsageError(
      'E_AMBIGUOUS',
      'these HTAB blocks make sense in either byte order; say which (--from-endian, or --htab-endian for --htab)',
    );
  }
  if (verdict.byteOrder === 'neither') {
    const { fault } = bestReading(verdict);
    throw new FormatError('E_MAGIC', 'these are no HTAB blocks', {
      offset: fault?.offset,
      actual: fault?.reason,
    });
  }
  return verdict.byteOrder;
}

interface HptInputState extends Pick<OpenedContainer, 'layers' | 'source' | 'start' | 'libvirt'> {
  readonly format: InputFormat;
  readonly byteOrder: ByteOrder | undefined;
  readonly options: OpenOptions;
  readonly head: Head;
}

/** An open input with an HPT in it. A pipe can be read once; anything else as often as wanted. */
export class HptInput implements AsyncDisposable {
  readonly format: InputFormat;
  /** Byte order of the block headers, for `kernel`. */
  readonly byteOrder: ByteOrder | undefined;
  /** Containers around the data, from the outside in. */
  readonly layers: readonly ContainerLayer[];
  #source: ByteSource;
  /** Where the data begins in `source`. */
  readonly start: number;
  /** The innermost libvirt image's header with its XML and cookie, as it stands in the file. */
  readonly libvirt: Buffer | undefined;
  /** What was found on the way, complete when `items` has come to its end. */
  readonly warnings: InputWarning[];
  #machine: string | undefined;
  #archive: ArchiveHeader | undefined;
  readonly #options: OpenOptions;
  readonly #head: Head;

  /** @internal */
  constructor(state: HptInputState) {
    this.format = state.format;
    this.byteOrder = state.byteOrder;
    this.layers = state.layers;
    this.warnings = state.layers.flatMap(layerWarnings);
    this.#source = state.source;
    this.start = state.start;
    this.libvirt = state.libvirt;
    this.#options = state.options;
    this.#head = state.head;
  }

  get source(): ByteSource {
    return this.#source;
  }

  get name(): string {
    return this.source.name;
  }

  /** Machine type, once `items` has passed it: of a snapshot, or of an archive of one. */
  get machine(): string | undefined {
    return this.#machine ?? this.#archive?.source.machine;
  }

  /** Header of an archive, once `items` has begun. */
  get archiveHeader(): ArchiveHeader | undefined {
    return this.#archive;
  }

  /**
   * The HPT as the input says it, in its order. Blocks are views: use each batch before the next.
   * @param needs.order find out the order of HTAB blocks first, if that takes reading them twice;
   *   without it they are given with what is known. Default false.
   */
  items(needs: { order?: boolean } = {}): AsyncGenerator<HtabItem> {
    return this.itemsBut(undefined, needs);
  }

  /**
   * The same without the blocks that `pass` takes on the way.
   * @internal
   */
  async *itemsBut(
    pass: BlockPass | undefined,
    needs: { order?: boolean } = {},
  ): AsyncGenerator<HtabItem> {
    if (this.format !== 'kernel') {
      yield* this.#sameOrder(this.#decode(pass));
      return;
    }
    const order = await this.#kernelOrder(needs.order ?? false);
    yield* decodeKernel(this.#reader(), { byteOrder: this.byteOrder ?? 'little', order, pass });
  }

  /** The table that results. Memory grows with its entries. */
  async table(): Promise<HashPageTable> {
    const { order, limits } = this.#options;
    return HashPageTable.from(this.items({ order: true }), order, limits);
  }

  /** The HPT in another format, as bytes. Use each piece before the next. */
  encode(format: StreamedFormat, options: EncodeOptions = {}): AsyncIterable<Uint8Array> {
    return encodeHpt(this.items({ order: format !== 'kernel' }), format, options);
  }

  #reader(): ByteReader {
    const { signal, onProgress, limits } = this.#options;
    return new ByteReader(this.source, { start: this.start, signal, onProgress, limits });
  }

  async *#decode(pass: BlockPass | undefined): AsyncGenerator<HtabItem> {
    const { signal, onProgress, limits } = this.#options;
    switch (this.format) {
      case 'snapshot':
        yield* readSnapshotHtab(this.source, {
          pass,
          start: this.start,
          signal,
          onProgress,
          limits,
          onConfiguration: ({ machine }) => {
            this.#machine = machine;
          },
          onWarning: (warning) => this.warnings.push(warning),
        });
        break;
      case 'section':
        yield* decodeSection(this.#reader(), {
          pass,
          onLittleEndian: (offset) =>
            this.warnings.push({ code: 'W_HTAB', offset, message: LITTLE_ENDIAN }),
        });
        break;
      case 'image':
        yield* this.#decodeImage();
        break;
      case 'archive': {
        // Loaded for archives only, with MessagePack and a library of schemas beneath it.
        const { readArchive } = await import('./archive/decode.js');
        const { header, items } = await readArchive(this.#reader());
        this.#archive = header;
        yield* items;
        break;
      }
      case 'kernel':
        break;
    }
  }

  async *#decodeImage(): AsyncGenerator<HtabItem> {
    const size = this.source.size === undefined ? undefined : this.source.size - this.start;
    const order = size === undefined ? this.#options.order : orderOfImage(size);
    if (order === undefined) {
      throw new UsageError('E_ORDER_REQUIRED', 'an image from a pipe needs its order (--order N)');
    }
    checkOrder(order, this.start, limitsOf(this.#options.limits), 'image');
    let notValid = 0;
    yield* decodeImage(this.#reader(), order, () => notValid++);
    if (notValid > 0) {
      const message = `${notValid} slots hold something without V and were taken as empty`;
      this.warnings.push({ code: 'W_NOT_VALID', offset: undefined, message });
    }
  }

  /** Refuses an order that the caller gave and the input contradicts. */
  async *#sameOrder(items: AsyncIterable<HtabItem>): AsyncGenerator<HtabItem> {
    const wanted = this.#options.order;
    let first = true;
    for await (const item of items) {
      // An archive of blocks whose order nothing told takes it from the caller.
      if (first && wanted !== undefined && item.type !== 'order' && item.type !== 'no-hpt') {
        yield { type: 'order', order: wanted, offset: 0 };
      }
      first = false;
      if (item.type === 'order' && wanted !== undefined && item.order !== wanted) {
        throw new UsageError('E_ORDER', 'the input has another order than the one given', {
          offset: item.offset,
          path: FORMAT_NAMES[this.format],
          expected: String(wanted),
          actual: String(item.order),
        });
      }
      yield item;
    }
  }

  /** The order of HTAB blocks: given, or that of the table which a complete first pass covers. */
  async #kernelOrder(thorough: boolean): Promise<number | undefined> {
    if (this.#options.order !== undefined) return this.#options.order;
    const byteOrder = this.byteOrder ?? 'little';
    if (this.#head.whole) {
      return sniffByteOrder(this.#head.bytes, true)[byteOrder].order;
    }
    if (!thorough) return undefined;
    // All of it is read for that, and then again.
    this.#source = await seekable(this.#source, this.#options);
    const coverage = new Coverage();
    for await (const item of decodeKernel(this.#reader(), { byteOrder })) {
      if (item.type !== 'blocks') continue;
      item.batch.forEach((index, nValid, nInvalid) => {
        coverage.add(index, nValid, nInvalid);
      });
    }
    return coverage.order;
  }

  async close(): Promise<void> {
    await this.source.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What a container says of itself that its user should know. */
export function layerWarnings(layer: ContainerLayer): InputWarning[] {
  const warning = (code: string, message: string) => ({ code, offset: layer.offset, message });
  if (layer.kind === 'libvirt' && !layer.complete) {
    const message = 'libvirt did not finish writing this image: its stream may be cut off';
    return [warning('W_INCOMPLETE', message)];
  }
  if (layer.kind === 'qcow2') {
    return layer.warnings.map((message) => warning('W_QCOW2', message));
  }
  return [];
}
