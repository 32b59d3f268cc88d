import { AtomicFile, type OutputOptions } from './bytes/output.js';
import type { OperationOptions } from './bytes/reader.js';
import { Reopenable } from './bytes/reopen.js';
import { type ByteSink, PipeSink } from './bytes/sink.js';
import type { ByteSource } from './bytes/source.js';
import { CompressedSink } from './container/compress.js';
import { openContainer } from './container/open.js';
import type { ConvertOutput } from './convert.js';
import { UsageError } from './errors.js';
import { FORMAT_NAMES } from './formats/format.js';
import type { RehashCounts } from './htab/rehash.js';
import { TableBuilder } from './htab/table.js';
import type { Tally } from './htab/tally.js';
import {
  containerOptions,
  type HptInput,
  type InputWarning,
  type OpenOptions,
  openInside,
  seekable,
} from './input.js';
import { ReplacementHpt, type ReplacementOptions } from './replacement.js';
import { type HeaderEdits, headerFor, machineOfXml } from './rewrite/header.js';
import { type HptEdits, needsTable, type PlannedHpt, planHpt } from './rewrite/hpt.js';
import { HptPatches, placesOf, samePayloads } from './rewrite/htab.js';
import { machinePatches } from './rewrite/machine.js';
import { mappedPatches } from './rewrite/mapped.js';
import { type Patch, splice } from './rewrite/patch.js';
import { itemsAt, type PayloadPlace } from './rewrite/payloads.js';
import { Turns } from './rewrite/turns.js';
import {
  chooseWrapping,
  compressionOf,
  type Wrapping,
  type WrappingEdits,
  wrappingOf,
} from './rewrite/wrapping.js';
import { describeStream, type StreamInfo } from './snapshot/describe.js';

/** Warnings of how the ends of devices were found: nothing here depends on them. */
const OF_DEVICES: ReadonlySet<string> = new Set(['W_LENGTH_BY_FOOTER', 'W_LENGTH_GUESSED']);

/** What is done to a snapshot; without edits, nothing is. */
export interface RewriteOptions
  extends OperationOptions,
    OutputOptions,
    Pick<OpenOptions, 'snapshot' | 'offset' | 'spoolLimit'>,
    Omit<HptEdits, 'replacement'>,
    WrappingEdits,
    HeaderEdits {
  /** A file with an HPT of any format, or a source, which is closed: it replaces the snapshot's. */
  readonly htab?: string | ByteSource | undefined;
  /** What `htab` is and has, where its content does not tell. */
  readonly htabOptions?: ReplacementOptions | undefined;
  /** Another machine type for the configuration, such as `pseries-7.2`. */
  readonly machine?: string | undefined;
}

/** What the sections `spapr/htab` of a stream carry. Counts are of parts, blocks and entries. */
export interface HptFigures {
  /** log2 of the table's size in bytes; undefined without HPT. */
  readonly order: number | undefined;
  /** The guest has no HPT (radix). */
  readonly radix: boolean;
  readonly parts: number;
  readonly blocks: number;
  /** Entries in the blocks, repetitions included. */
  readonly entries: number;
  /** Bytes of all payloads. */
  readonly bytes: number;
}

/** What a rewrite did. Plain data. */
export interface RewriteResult {
  /** Whether the output is the input, byte for byte. */
  readonly identical: boolean;
  /** Bytes of the input, where its size was known, and of the output. */
  readonly bytes: { readonly before: number | undefined; readonly after: number };
  /** Machine types; undefined where the stream records none (pseries-2.3 or older). */
  readonly machine: { readonly before: string | undefined; readonly after: string | undefined };
  /** What stands around the stream; `before` is undefined for a qcow2 image. */
  readonly wrapping: { readonly before: Wrapping | undefined; readonly after: Wrapping };
  /** Undefined for a stream without `spapr/htab`. */
  readonly hpt: { readonly before: HptFigures; readonly after: HptFigures } | undefined;
  /** With another order: what became of the entries. */
  readonly rehashed: RehashCounts | undefined;
  readonly warnings: readonly InputWarning[];
}

/**
 * Writes a snapshot anew with edits: of its HPT, its machine type, the container around it. What no
 * edit touches is the same bytes. Without edits all of it is, except that the VM state of a qcow2
 * image comes out as a raw stream. The stream is walked first: one that is damaged is refused.
 *
 * Edits of the HPT are done in the order `htab`, `order`, `boltedOnly`, `compact`. A new HPT with as
 * many parts as the stream goes in part by part. Otherwise, and whenever the table is built anew,
 * everything goes into the last part and the others are emptied.
 *
 * @param input a path, or a source, which is closed
 * @param output a path, which appears whole or not at all (mode 0600), or anything that takes bytes
 * @throws what opening and walking the input throw; UsageError `E_EXISTS`, `E_ORDER`, `E_USAGE`;
 *   UnsupportedError `E_NO_HPT`, `E_NO_SECTION`, `E_COLLISION`, `E_UNSUPPORTED`,
 *   `E_PROGRAM_MISSING`; FormatError `E_HPTE`, `E_PLACEMENT`; IoError
 */
export async function rewrite(
  input: string | ByteSource,
  output: ConvertOutput,
  options: RewriteOptions = {},
): Promise<RewriteResult> {
  if (typeof output !== 'string') return rewriteTo(new PipeSink(output), input, options);
  // First, so that a file that exists is refused before anything is read or copied.
  await using file = await AtomicFile.create(output, { force: options.force });
  const result = await rewriteTo(file, input, options);
  await file.commit();
  return result;
}

async function rewriteTo(
  sink: ByteSink,
  input: string | ByteSource,
  options: RewriteOptions,
): Promise<RewriteResult> {
  const turns = new Turns(options);
  const { signal, spoolLimit } = options;
  await using outer = await Reopenable.of(input, (source) =>
    seekable(source, { signal, spoolLimit, onProgress: turns.begin(3) }),
  );
  await using opened = await openSnapshot(outer, options);
  const { info, table } = await survey(opened, options, turns.begin(2));
  // What could only be read forward is opened once more.
  await using again = opened.source.seekable ? undefined : await openSnapshot(outer, options);
  const { source, start } = again ?? opened;

  await using replacement = await replacementOf(options);
  const edits: HptEdits = { ...options, replacement };
  const places = info.hpt === undefined && !editsHpt(edits) ? [] : placesOf(info);
  const present = {
    order: info.hpt?.order,
    radix: info.hpt?.radix ?? false,
    parts: places.length - 1,
    items: () => itemsAt(source, places),
    table: table?.finish(),
  };
  const plan = await planHpt(present, edits, signal);
  const before = wrappingOf(opened.layers);
  const after = chooseWrapping(before, options, hasMappedRam(info));
  const header = headerFor(after, opened.libvirt, options);
  const items = (await changesHpt(plan, outer, opened, places, options)) ? plan.items : undefined;
  await using payloads = items && new HptPatches(items(), places, signal);
  const patches = [...(payloads?.patches ?? []), ...machineEdits(source, info, options)];
  // What stands in front of the container stays, unless another container was asked for.
  const front = options.offset ?? 0;
  const kept = before !== undefined && options.container === undefined ? front : 0;
  const identical =
    patches.length === 0 &&
    kept === front &&
    before?.container === after.container &&
    before.format === after.format &&
    header.equals(opened.libvirt ?? Buffer.alloc(0));
  const copying = { signal, onProgress: turns.begin(1) };
  if (identical) {
    await splice(outer.open(), 0, [], sink, copying);
  } else {
    if (kept > 0) await sink.copy(outer.open(), 0, kept, copying);
    await sink.append(header);
    patches.push(...mappedPatches(source, info.ram, copying));
    patches.sort((a, b) => a.from - b.from);
    await writeStream({ source, start, patches }, after, sink, copying);
  }
  const hpt = figuresBefore(info, places);
  return {
    identical,
    bytes: { before: outer.size, after: sink.position },
    machine: machines(info, options),
    wrapping: { before, after },
    hpt: hpt && { before: hpt, after: payloads ? figuresAfter(payloads.tally, hpt.parts) : hpt },
    rehashed: plan.rehashed,
    warnings: [
      ...opened.warnings,
      ...info.warnings.filter(({ code }) => !OF_DEVICES.has(code)),
      ...planWarnings(plan),
      ...headerWarnings(header, machines(info, options).after),
    ],
  };
}

async function openSnapshot(outer: Reopenable, options: RewriteOptions): Promise<HptInput> {
  const { snapshot, offset, signal } = options;
  const reading = { snapshot, offset, signal };
  const opened = await openContainer(outer.open(), containerOptions(reading));
  const input = await openInside(opened, reading);
  if (input.format === 'snapshot') return input;
  await input.close();
  throw new UsageError(
    'E_USAGE',
    `${input.name} holds ${FORMAT_NAMES[input.format]} and no snapshot; 'convert' translates it`,
  );
}

/** Walks the stream, and builds its table where that is needed. */
async function survey(
  { source, start }: HptInput,
  options: RewriteOptions,
  onProgress: OperationOptions['onProgress'],
): Promise<{ info: StreamInfo; table: TableBuilder | undefined }> {
  const whole = options.htab === undefined && needsTable(options);
  const table = whole ? new TableBuilder() : undefined;
  let hpt = false;
  const info = await describeStream(source, {
    start,
    signal: options.signal,
    onProgress,
    onHtab: (item) => {
      hpt ||= item.type === 'order';
      table?.add(item);
    },
  });
  return { info, table: hpt && info.hpt?.radix === false ? table : undefined };
}

/**
 * Whether the HPT becomes another one. What comes out of the same stream is not looked through for
 * that where it would have to be decompressed once more.
 */
async function changesHpt(
  { items }: PlannedHpt,
  outer: Reopenable,
  opened: HptInput,
  places: readonly PayloadPlace[],
  options: RewriteOptions,
): Promise<boolean> {
  if (items === undefined) return false;
  if (opened.source.seekable)
    return !(await samePayloads(items(), opened.source, places, options.signal));
  if (options.htab === undefined) return true;
  await using again = await openSnapshot(outer, options);
  return !(await samePayloads(items(), again.source, places, options.signal));
}

async function replacementOf(options: RewriteOptions): Promise<ReplacementHpt | undefined> {
  const { htab, htabOptions, signal, spoolLimit } = options;
  if (htab === undefined) return undefined;
  return ReplacementHpt.open(htab, { ...htabOptions, signal, spoolLimit });
}

function editsHpt({ replacement, order, boltedOnly, compact }: HptEdits): boolean {
  return replacement !== undefined || order !== undefined || Boolean(boltedOnly || compact);
}

function machineEdits(source: ByteSource, info: StreamInfo, { machine }: RewriteOptions): Patch[] {
  if (machine === undefined) return [];
  return machinePatches(source, machine, info.configuration, info.vmdesc);
}

async function writeStream(
  stream: { source: ByteSource; start: number; patches: readonly Patch[] },
  wrapping: Wrapping,
  sink: ByteSink,
  options: OperationOptions,
): Promise<void> {
  const { source, start, patches } = stream;
  const compression = compressionOf(wrapping.format);
  if (compression === undefined) {
    await splice(source, start, patches, sink, options);
    return;
  }
  await using compressed = await CompressedSink.open(compression, sink);
  await splice(source, start, patches, compressed, options);
  await compressed.finish();
}

/** A stream with mapped-ram says so even where no block has pages in it (x-ignore-shared). */
function hasMappedRam({ configuration, ram }: StreamInfo): boolean {
  const said = configuration?.capabilities.includes('mapped-ram');
  return said || ram.some(({ mapped }) => mapped);
}

function machines(info: StreamInfo, options: RewriteOptions): RewriteResult['machine'] {
  const before = info.configuration?.machine;
  return { before, after: options.machine ?? before };
}

function figuresBefore(
  { hpt }: StreamInfo,
  places: readonly PayloadPlace[],
): HptFigures | undefined {
  if (hpt === undefined) return undefined;
  const { order, radix, blocks, carried } = hpt;
  const bytes = places.reduce((sum, { payloadLength }) => sum + payloadLength, 0);
  return { order, radix, parts: places.length - 1, blocks, entries: carried, bytes };
}

function figuresAfter(tally: Tally, parts: number): HptFigures {
  const { order, radix, blocks, valid, bytes } = tally;
  return { order, radix, parts, blocks, entries: valid, bytes };
}

function planWarnings({ notes }: PlannedHpt): InputWarning[] {
  return notes.map((message) => ({ code: 'W_HPT', offset: undefined, message }));
}

function headerWarnings(header: Buffer, machine: string | undefined): InputWarning[] {
  const named = machineOfXml(header);
  if (named === undefined || machine === undefined || named === machine) return [];
  const message = `the XML of the domain asks for machine type ${named}, and the stream is of ${machine}`;
  return [{ code: 'W_XML_MACHINE', offset: undefined, message }];
}
