import type { ArchiveOrigin } from './archive/encode.js';
import type { ByteSource } from './bytes/source.js';
import type { EncodeOptions } from './formats/encode.js';
import type { HptFormat, InputFormat } from './formats/format.js';
import { boltedOnly } from './htab/bolted.js';
import { canonical } from './htab/canonical.js';
import type { HtabItems } from './htab/items.js';
import type { BlockPass } from './htab/scan.js';
import type { Tally } from './htab/tally.js';
import { type HptInput, type InputWarning, type OpenOptions, openHpt } from './input.js';
import { formatFor, type HptOutput, partsWarnings, withOutput } from './output.js';

export interface ConvertOptions extends OpenOptions, Pick<EncodeOptions, 'markParts'> {
  /** Output format. Default: by the extension of the output's path. */
  readonly to?: HptFormat | undefined;
  /** Byte order of the block headers of `kernel` output. Default `little`. */
  readonly outputByteOrder?: EncodeOptions['byteOrder'];
  /** Keep the bolted entries only, as the kernel's BOLTED_ONLY flag reads them. Default false. */
  readonly boltedOnly?: boolean | undefined;
  /** Rebuild the table and write it in canonical form; holds the table. Default false. */
  readonly canonical?: boolean | undefined;
  /** Replace an output file that exists. Default false. */
  readonly force?: boolean | undefined;
}

/** What a conversion did. Counts are of what was written; `valid` counts repetitions too. */
export interface ConvertResult {
  readonly from: InputFormat;
  readonly to: HptFormat;
  readonly machine: string | undefined;
  /** log2 of the table's size; undefined when nothing told it. */
  readonly order: number | undefined;
  /** The guest has no HPT (radix). */
  readonly radix: boolean;
  readonly parts: number;
  readonly blocks: number;
  readonly valid: number;
  readonly bytes: number;
  readonly warnings: readonly InputWarning[];
}

/** Where converted bytes go; see {@link HptOutput}. */
export type ConvertOutput = HptOutput;

/**
 * Converts the HPT of a snapshot or of an HPT file into an HPT file. Without `canonical`, blocks
 * are kept one for one, and memory does not grow with the table.
 * @throws what {@link openHpt} and the decoders throw; UsageError `E_EXISTS`, `E_ORDER_REQUIRED`;
 *   UnsupportedError `E_NO_HPT` for the image of a radix guest
 */
export async function convert(
  input: string | ByteSource,
  output: ConvertOutput,
  options: ConvertOptions = {},
): Promise<ConvertResult> {
  const to = formatFor(output, options.to);
  return withOutput(output, to, options, async (write) => {
    await using hpt = await openHpt(input, options);
    const tally = await write((pass) => transformed(hpt, to, options, pass), {
      signal: options.signal,
      onProgress: options.onProgress,
      byteOrder: options.outputByteOrder,
      markParts: options.markParts,
      order: options.order,
      origin: () => originOf(hpt),
    });
    return result(hpt, to, tally, options.markParts);
  });
}

function originOf(hpt: HptInput): ArchiveOrigin {
  // An archive of an archive says where the table came from in the first place.
  if (hpt.archiveHeader !== undefined) {
    const { source, byteOrder, host } = hpt.archiveHeader;
    return { source, byteOrder, host };
  }
  const source = { kind: hpt.format, ...(hpt.machine && { machine: hpt.machine }) };
  return { source, byteOrder: hpt.byteOrder ?? null, host: null };
}

function transformed(
  hpt: HptInput,
  to: HptFormat,
  options: ConvertOptions,
  pass: BlockPass | undefined,
): HtabItems {
  const asTheyAre = !options.canonical && !options.boltedOnly;
  const needs = { order: to !== 'kernel' || options.canonical === true };
  const items = hpt.itemsBut(asTheyAre ? pass : undefined, needs);
  if (options.canonical) {
    return canonical(items, to === 'kernel' ? 'kernel' : 'qemu', {
      order: options.order,
      boltedOnly: options.boltedOnly,
      limits: options.limits,
    });
  }
  return options.boltedOnly ? boltedOnly(items) : items;
}

function result(
  hpt: HptInput,
  to: HptFormat,
  tally: Tally,
  marked: boolean | undefined,
): ConvertResult {
  const { order, radix, parts, blocks, valid, bytes } = tally;
  const { warnings, machine, format } = hpt;
  if (radix && to === 'kernel') {
    const message = 'the guest has no HPT (radix): the output is empty, as the kernel reads it';
    warnings.push({ code: 'W_NO_HPT', offset: undefined, message });
  }
  warnings.push(...partsWarnings(to, parts, marked));
  return { from: format, to, machine, order, radix, parts, blocks, valid, bytes, warnings };
}
