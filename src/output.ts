import { AtomicFile, type OutputOptions } from './bytes/output.js';
import type { OperationOptions } from './bytes/reader.js';
import { UsageError } from './errors.js';
import { type EncodeOptions, encodeHpt, type StreamedFormat } from './formats/encode.js';
import { formatOfPath, HPT_FORMATS, type HptFormat } from './formats/format.js';
import { writeImage } from './htab/image.js';
import type { HtabItems } from './htab/items.js';
import type { BlockPass } from './htab/scan.js';
import { Tally } from './htab/tally.js';
import type { InputWarning } from './input.js';
import { passBlocks } from './pass-blocks.js';

/** Where an HPT goes: a path (written atomically, mode 0600), or anything that takes bytes. */
export type HptOutput = string | { write(bytes: Uint8Array): Promise<void> };

export interface WriteOptions extends EncodeOptions, OperationOptions {
  /** Order of the table, for items that do not say it. */
  readonly order?: number | undefined;
}

/** Items but for the blocks that the pass takes, where there is one. */
export type ItemsBut = (pass: BlockPass | undefined) => HtabItems;

/** Writes items to the output, once. Resolves to what was written. */
export type WriteHpt = (items: ItemsBut, options: WriteOptions) => Promise<Tally>;

/** @throws UsageError `E_USAGE` where nothing says the format, or there is none of that name */
export function formatFor(output: HptOutput, to: HptFormat | undefined): HptFormat {
  const format = to ?? (typeof output === 'string' ? formatOfPath(output) : undefined);
  if (format === undefined) {
    throw new UsageError(
      'E_USAGE',
      `the output's name does not tell its format; say it (--to ${HPT_FORMATS.join('|')})`,
    );
  }
  if (!HPT_FORMATS.includes(format)) {
    throw new UsageError('E_USAGE', 'there is no such format', {
      expected: HPT_FORMATS.join(', '),
      actual: String(format),
    });
  }
  return format;
}

/**
 * Opens the output first, so that a file that exists is refused before anything is read or copied;
 * it appears when the job is done.
 * @throws what the job throws; UsageError `E_EXISTS`, and `E_USAGE` for an image to a stream; IoError
 */
export async function withOutput<T>(
  output: HptOutput,
  format: HptFormat,
  options: OutputOptions & Pick<OperationOptions, 'signal'>,
  job: (write: WriteHpt) => Promise<T>,
): Promise<T> {
  if (typeof output !== 'string') {
    if (format !== 'image') return job(toSink(output, format));
    throw new UsageError('E_USAGE', 'an image is sparse and is written to a file, not to a stream');
  }
  await using file = await AtomicFile.create(output, options);
  const result = await job(toFile(file, format));
  await file.commit();
  return result;
}

function toFile(file: AtomicFile, format: HptFormat): WriteHpt {
  return async (items, options) => {
    const tally = new Tally();
    if (format === 'image') {
      await writeImage(tally.count(items(undefined)), file, options.order);
      tally.bytes = tally.order === undefined ? 0 : 2 ** tally.order;
      return tally;
    }
    const byteOrder = format === 'section' ? 'big' : (options.byteOrder ?? 'little');
    const pass = format === 'archive' ? undefined : passBlocks(file, byteOrder, tally, options);
    for await (const bytes of encodeHpt(tally.count(items(pass)), format, options)) {
      await file.append(bytes);
    }
    tally.bytes = file.position;
    return tally;
  };
}

function toSink(output: Exclude<HptOutput, string>, format: StreamedFormat): WriteHpt {
  return async (items, options) => {
    const tally = new Tally();
    for await (const bytes of encodeHpt(tally.count(items(undefined)), format, options)) {
      await output.write(bytes);
      tally.bytes += bytes.length;
    }
    return tally;
  };
}

/** What is lost where several parts become one. */
export function partsWarnings(
  format: HptFormat,
  parts: number,
  marked: boolean | undefined,
): InputWarning[] {
  if (format !== 'kernel' || parts <= 1 || marked) return [];
  const message = `the kernel's framing has no parts: ${parts} became one; --mark-parts keeps them`;
  return [{ code: 'W_PARTS', offset: undefined, message }];
}
