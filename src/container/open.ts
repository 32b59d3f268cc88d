import { readUpTo } from '../bytes/read.js';
import type { OperationOptions } from '../bytes/reader.js';
import { type ByteSource, RETAINED_HEAD, SliceSource } from '../bytes/source.js';
import {
  AbortedError,
  IoError,
  SpaprHtabError,
  throwIfAborted,
  UnsupportedError,
  UsageError,
} from '../errors.js';
import { exceeded, type Limits, limitsOf } from '../limits.js';
import { type CompressionKind, isCompression, openDecompressed } from './decompress.js';
import { type ContainerLayer, libvirtLayer, type Qcow2Layer, qcow2Layer } from './layers.js';
import { readLibvirtHeader } from './libvirt.js';
import { readQcow2Header } from './qcow2-header.js';
import { type Qcow2Snapshot, readQcow2Snapshots } from './qcow2-snapshots.js';
import { Qcow2VmStateSource } from './qcow2-vmstate.js';
import { chooseSnapshot } from './snapshot.js';
import { REFUSALS, SNIFF_LENGTH, sniffContainer } from './sniff.js';
import { spool } from './spool.js';

export type { ContainerLayer } from './layers.js';

export interface ContainerOptions extends OperationOptions {
  /** Which internal snapshot of a qcow2 image, by ID or else by name. */
  readonly snapshot?: string | undefined;
  /** Where in the outermost file to begin. Default 0. */
  readonly offset?: number | undefined;
  /** Whether layers also carry the XML and the cookie of a libvirt image. Default false. */
  readonly xml?: boolean | undefined;
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
 * left as it is, so that formats without one can be recognised by what they hold. What can only be
 * read forward, but must be read anywhere (a qcow2 image in a pipe), is copied to a temporary file
 * of at most `spoolBytes`; where that limit is 0 it is refused with `E_NOT_SEEKABLE`.
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

  readonly #limits: Limits;

  constructor(
    public source: ByteSource,
    readonly options: ContainerOptions,
  ) {
    this.start = options.offset ?? 0;
    this.#limits = limitsOf(options.limits);
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
      if (this.layers.length >= this.#limits.containers) {
        const message = `there are more containers in one another than accepted, the next is ${kind}`;
        throw exceeded(this.#limits, 'containers', message, { offset: this.start });
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
    const header = await readLibvirtHeader(this.source, this.start, this.#limits);
    this.layers.push(libvirtLayer(this.start, header, this.options.xml === true));
    this.libvirt = header.bytes;
    this.start = header.streamOffset;
    if (header.format === 'raw' || header.format === 'sparse') return true;
    await this.#decompress(header.format);
    return false;
  }

  async #decompress(kind: CompressionKind): Promise<void> {
    const { signal, limits } = this.options;
    const options = { start: this.start, signal, limits };
    this.source = await openDecompressed(this.source, kind, options);
    this.start = 0;
  }

  async #qcow2(): Promise<void> {
    if (!this.source.seekable) await this.#spool();
    const image = this.start === 0 ? this.source : new SliceSource(this.source, this.start);
    const limits = this.#limits;
    const header = await readQcow2Header(image, limits);
    const snapshots = await readQcow2Snapshots(image, header, limits);
    const layer = (chosen: Qcow2Snapshot | null): Qcow2Layer =>
      qcow2Layer(this.start, header, snapshots, chosen);
    this.layers.push(layer(null));
    const chosen = chooseSnapshot(snapshots, this.options.snapshot, this.source.name);
    this.layers.splice(-1, 1, layer(chosen));
    const { signal } = this.options;
    this.source = await Qcow2VmStateSource.open(image, header, chosen, { signal, limits });
    this.start = 0;
  }

  /** A snapshot was named, and there is no image that could have one. */
  #noSnapshots(): void {
    const { snapshot } = this.options;
    if (snapshot === undefined) return;
    const message = `${this.source.name} is no qcow2 image: it has no internal snapshots to choose`;
    throw new UsageError('E_SNAPSHOT', message);
  }

  /** A copy that can be read anywhere, unless none is allowed. */
  async #spool(): Promise<void> {
    if (this.#limits.spoolBytes > 0) this.source = await spool(this.source, this.options);
  }
}
