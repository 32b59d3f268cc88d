import type { CompressionKind } from '../container/decompress.js';
import type { ContainerLayer } from '../container/layers.js';
import { isLibvirtFormat, type LibvirtFormat } from '../container/libvirt.js';
import { UnsupportedError, UsageError } from '../errors.js';

/** Containers that are written. */
export const OUTPUT_CONTAINERS = ['raw', 'libvirt'] as const;
export type OutputContainer = (typeof OUTPUT_CONTAINERS)[number];

/** How a stream is stored in them: not at all compressed, by a program, or as mapped-ram (`sparse`). */
export const OUTPUT_FORMATS = [
  'none',
  'gzip',
  'bzip2',
  'xz',
  'lzop',
  'zstd',
  'lz4',
  'sparse',
] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

/** What stands around a stream. */
export interface Wrapping {
  readonly container: OutputContainer;
  readonly format: OutputFormat;
}

/** What is wanted around it; as the input has it where nothing is said. */
export interface WrappingEdits {
  readonly container?: OutputContainer | undefined;
  /** Default: as it was; `none` (or `sparse`, for mapped-ram in a libvirt image) in another container. */
  readonly compress?: OutputFormat | undefined;
}

/** What the input has around its stream; undefined for a qcow2 image, which is not written. */
export function wrappingOf(layers: readonly ContainerLayer[]): Wrapping | undefined {
  let wrapping: Wrapping = { container: 'raw', format: 'none' };
  for (const layer of layers) {
    if (layer.kind === 'qcow2') return undefined;
    if (layer.kind === 'libvirt') {
      wrapping = { container: 'libvirt', format: layer.format === 'raw' ? 'none' : layer.format };
    } else if (wrapping.container === 'raw') {
      wrapping = { container: 'raw', format: layer.kind };
    }
  }
  return wrapping;
}

/**
 * What the output gets.
 * @param mapped whether the stream is one of mapped-ram; undefined where that is not known yet
 * @throws UnsupportedError `E_UNSUPPORTED` for what libvirt or QEMU could not read
 */
export function chooseWrapping(
  before: Wrapping | undefined,
  edits: WrappingEdits,
  mapped: boolean | undefined,
): Wrapping {
  const container = edits.container ?? before?.container ?? 'raw';
  const same = container === before?.container;
  const otherwise = container === 'libvirt' && mapped === true ? 'sparse' : 'none';
  const format = edits.compress ?? (same ? before.format : otherwise);
  if (container === 'raw') {
    if (format === 'sparse') {
      throw new UsageError(
        'E_USAGE',
        "'sparse' is a format of libvirt images, not of a raw stream",
      );
    }
    return { container, format };
  }
  if (format === 'lz4') {
    throw new UnsupportedError('E_UNSUPPORTED', 'libvirt images have no format lz4', {
      expected: 'none, gzip, bzip2, xz, lzop, zstd or sparse',
    });
  }
  const untouched = same && edits.compress === undefined;
  if (!untouched && mapped !== undefined && mapped !== (format === 'sparse')) {
    const message = mapped
      ? 'the stream has mapped-ram, which libvirt reads from images of the format sparse only'
      : 'the format sparse is for streams with mapped-ram, and this one has its pages in the stream';
    throw new UnsupportedError('E_UNSUPPORTED', message, { actual: format });
  }
  return { container, format };
}

/** The same in the words of a libvirt header. */
export function libvirtFormat(format: OutputFormat): LibvirtFormat {
  if (format === 'none') return 'raw';
  if (isLibvirtFormat(format)) return format;
  throw new RangeError(`no format of libvirt: ${format}`);
}

/** How the bytes of the stream are compressed, if they are. */
export function compressionOf(format: OutputFormat): CompressionKind | undefined {
  return format === 'none' || format === 'sparse' ? undefined : format;
}
