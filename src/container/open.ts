import { readUpTo } from '../bytes/read.js';
import { type ByteSource, RETAINED_HEAD, SliceSource } from '../bytes/source.js';
import {
  AbortedError,
  IoError,
  LimitError,
  SpaprHtabError,
  throwIfAborted,
  UnsupportedError,
  UsageError,
} from '../errors.js';
import { type CompressionKind, isCompression, openDecompressed } from './decompress.js';
import { type ContainerLayer, libvirtLayer, type Qcow2Layer, qcow2Layer } from './layers.js';
import { readLibvirtHeader } from './libvirt.js';
import { readQcow2Header } from './qcow2-header.js';
import { type Qcow2Snapshot, readQcow2Snapshots } from './qcow2-snapshots.js';
import { Qcow2VmStateSource } from './qcow2-vmstate.js';
import { chooseSnapshot } from './snapshot.js';
import { REFUSALS, SNIFF_LENGTH, sniffContainer } from './sniff.js';
import { type SpoolOptions, spool } from './spool.js';

export type { ContainerLayer } from './layers.js';

/** Containers that may stand in one another: a gzip of a libvirt image of an xz is three. */
export const MAX_NESTING = 4;

export interface ContainerOptions {
  /** Which internal snapshot of a qcow2 image, by ID or else by name. */
  readonly snapshot?: string | undefined;
  /** Where in the outermost file to begin. Default 0. */
  readonly offset?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Whether layers also carry the XML and the cookie of a libvirt image. Default false. */
  readonly xml?: boolean | undefined;
  /**
   * Copy what can only be read forward, but must be read anywhere (a qcow2 image in a pipe), to a
   * temporary file of at most so many bytes. Default: refuse with `E_NOT_SEEKABLE`.
   */
  readonly spool?: SpoolOptions | undefined;
}

/** What was found inside the containers. Closing it closes everything down to the file. */
export interface OpenedContainer extends AsyncDisposable {
  /** The containers, from the outside in; plain data. */
  readonly layers: readonly ContainerLayer[];
  /** Where the stream, or whatever else stands inside, is read from. */
  readonly source: ByteSource;
  /** Position in {@link source} of its first byte. */
  readonly start: number;
  /** The innermost libvirt image's header with its XML and cookie, as it stands in the file. */
  readonly libvirt: Buffer | undefined;
  close(): Promise<void>;
}

export interface ContainerInspection {
  /** The containers that could be read, from the outside in. */
  readonly layers: readonly ContainerLayer[];
  /** What is inside, unless there is a refusal. */
  readonly opened: OpenedContainer | undefined;
  /** Why the innermost of the layers, or what is in it, could not be opened. */
  readonly refusal: SpaprHtabError | undefined;
}

/**
 * Opens the containers around a snapshot, as many as there are. What begins with no known magic is
 * left as it is, so that formats without one can be recognised by what they hold.
 *
 * The source belongs to the container from the call on, and is closed when the call fails.
 *
 * @throws UnsupportedError `E_CONTAINER` for files of which only the kind is known, `E_UNSUPPORTED`,
 *   `E_VERSION`, `E_PROGRAM_MISSING`; UsageError `E_SNAPSHOT`, `E_NOT_SEEKABLE`; LimitError
 *   `E_LIMIT`; FormatError `E_CONTAINER`, `E_TRUNCATED`, `E_COMPRESSED`
 */
export async function openContainer(
  source: ByteSource,
  options: ContainerOptions = {},
): Promise<OpenedContainer> {
  const { opened, refusal } = await inspectContainer(source, options);
  if (opened === undefined) throw refusal;
  return opened;
}

/**
 * Like {@link openContainer}, but a container that is recognised and cannot be opened is a value:
 * the layers up to there, and the reason.
 *
 * @throws IoError, AbortedError
 */
export async function inspectContainer(
  source: ByteSource,
  options: ContainerOptions = {},
): Promise<ContainerInspection> {
  const walk = new ContainerWalk(source, options);
  try {
    await walk.run();
  } catch (error) {
    await walk.source.close();
    if (!(error instanceof SpaprHtabError)) throw error;
    if (error instanceof IoError || error instanceof AbortedError) throw error;
    return { layers: walk.layers, opened: undefined, refusal: error };
  }
  const opened: OpenedContainer = {
    layers: walk.layers,
    source: walk.source,
    start: walk.start,
    libvirt: walk.libvirt,
    close: () => walk.source.close(),
    [Symbol.asyncDispose]: () => walk.source.close(),
  };
  return { layers: walk.layers, opened, refusal: undefined };
}

class ContainerWalk {
  readonly layers: ContainerLayer[] = [];
  start: number;
  libvirt: Buffer | undefined;

  constructor(
    public source: ByteSource,
    readonly options: ContainerOptions,
  ) {
    this.start = options.offset ?? 0;
  }

  async run(): Promise<void> {
    // On a pipe, what is looked at beyond the retained head may be gone afterwards.
    if (!this.source.seekable && this.start + SNIFF_LENGTH > RETAINED_HEAD) {
      await this.#spool();
    }
    for (;;) {
      throwIfAborted(this.options.signal);
      const head = new Uint8Array(SNIFF_LENGTH);
      const length = await readUpTo(this.source, head, this.start, this.options.signal);
      const kind = sniffContainer(head.subarray(0, length));
      if (kind === undefined || kind === 'stream') return this.#noSnapshots();
      if (this.layers.length === MAX_NESTING) {
        throw new LimitError('E_LIMIT', 'there are more containers in one another than accepted', {
          offset: this.start,
          expected: `at most ${MAX_NESTING}`,
          actual: `${MAX_NESTING} and then ${kind}`,
        });
      }
      if (kind === 'libvirt') {
        if (await this.#libvirt()) return this.#noSnapshots();
      } else if (kind === 'qcow2') {
        return this.#qcow2();
      } else if (isCompression(kind)) {
        this.layers.push({ kind, offset: this.start });
        await this.#decompress(kind);
      } else {
        throw new UnsupportedError('E_CONTAINER', `${this.source.name} is ${REFUSALS[kind]}`, {
          offset: this.start,
        });
      }
    }
  }

  /**
   * Returns true when the stream is stored as it is. mapped-ram offsets are positions in the whole
   * file, so the source must stay the same.
   */
  async #libvirt(): Promise<boolean> {
    const header = await readLibvirtHeader(this.source, this.start);
    this.layers.push(libvirtLayer(this.start, header, this.options.xml === true));
    this.libvirt = header.bytes;
    this.start = header.streamOffset;
    if (header.format === 'raw' || header.format === 'sparse') return true;
    await this.#decompress(header.format);
    return false;
  }

  async #decompress(kind: CompressionKind): Promise<void> {
    const { signal } = this.options;
    this.source = await openDecompressed(this.source, kind, { start: this.start, signal });
    this.start = 0;
  }

  async #qcow2(): Promise<void> {
    if (!this.source.seekable && this.options.spool !== undefined) await this.#spool();
    const image = this.start === 0 ? this.source : new SliceSource(this.source, this.start);
    const header = await readQcow2Header(image);
    const snapshots = await readQcow2Snapshots(image, header);
    const layer = (chosen: Qcow2Snapshot | null): Qcow2Layer =>
      qcow2Layer(this.start, header, snapshots, chosen);
    this.layers.push(layer(null));
    const chosen = chooseSnapshot(snapshots, this.options.snapshot, this.source.name);
    this.layers.splice(-1, 1, layer(chosen));
    this.source = await Qcow2VmStateSource.open(image, header, chosen, this.options.signal);
    this.start = 0;
  }

  /** A snapshot was named, and there is no image that could have one. */
  #noSnapshots(): void {
    const { snapshot } = this.options;
    if (snapshot === undefined) return;
    const message = `${this.source.name} is no qcow2 image: it has no internal snapshots to choose`;
    throw new UsageError('E_SNAPSHOT', message);
  }

  async #spool(): Promise<void> {
    const { signal } = this.options;
    if (this.options.spool === undefined) return;
    this.source = await spool(this.source, { signal, ...this.options.spool });
  }
}
