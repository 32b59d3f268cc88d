import { AtomicFile, type OutputOptions } from './bytes/output.js';
import type { OperationOptions } from './bytes/reader.js';
import { Reopenable } from './bytes/reopen.js';
import { type ByteSink, PipeSink } from './bytes/sink.js';
import type { ByteSource } from './bytes/source.js';
import { CompressedSink } from './container/compress.js';
import { otherMachine } from './container/libvirt.js';
import { openContainer } from './container/open.js';
import type { ConvertOutput } from './convert.js';
import { UsageError } from './errors.js';
import { FORMAT_NAMES } from './formats/format.js';
import type { ByteOrder } from './htab/block.js';
import { isOrder, noSuchOrder } from './htab/order.js';
import { type HashPageTable, TableBuilder } from './htab/table.js';
import type { Tally } from './htab/tally.js';
import {
  containerOptions,
  type HptInput,
  type OpenOptions,
  openInside,
  seekable,
} from './input.js';
import { limitsOf } from './limits.js';
import { ReplacementHpt, type ReplacementOptions } from './replacement.js';
import { checkXml, type HeaderEdits, headerFor } from './rewrite/header.js';
import {
  type HptEdits,
  type HptPlan,
  needsTable,
  type PlannedHpt,
  planHpt,
} from './rewrite/hpt.js';
import { HptPatches, placesOf, samePayloads } from './rewrite/htab.js';
import { checkMachine, machinePatches } from './rewrite/machine.js';
import { mappedPatches } from './rewrite/mapped.js';
import { type Patch, splice } from './rewrite/patch.js';
import { itemsAt, type PayloadPlace } from './rewrite/payloads.js';
import {
  hptResult,
  type RewriteResult,
  type RewriteWarning,
  streamWarnings,
  warning,
} from './rewrite/result.js';
import { Turns } from './rewrite/turns.js';
import {
  chooseWrapping,
  compressionOf,
  type Wrapping,
  type WrappingEdits,
  wrappingOf,
} from './rewrite/wrapping.js';
import { describeStream, type StreamInfo } from './snapshot/describe.js';

/** What is done to a snapshot; without edits, nothing is. */
export interface RewriteOptions
  extends OperationOptions,
    OutputOptions,
    Pick<OpenOptions, 'snapshot' | 'offset'>,
    HptEdits,
    WrappingEdits,
    HeaderEdits {
  /** A file with an HPT of any format, or a source, which is closed: it replaces the snapshot's. */
  readonly htab?: string | ByteSource | undefined;
  /** What `htab` is and has, where its content does not tell. */
  readonly htabOptions?: ReplacementOptions | undefined;
  /** Another machine type for the configuration, such as `pseries-7.2`. */
  readonly machine?: string | undefined;
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
 *   `E_ORDER_REQUIRED`; UnsupportedError `E_NO_HPT`, `E_NO_SECTION`, `E_COLLISION`, `E_UNSUPPORTED`,
 *   `E_PROGRAM_MISSING`; FormatError `E_HPTE`, `E_PLACEMENT`; LimitError; IoError
 */
export async function rewrite(
  input: string | ByteSource,
  output: ConvertOutput,
  options: RewriteOptions = {},
): Promise<RewriteResult> {
  // Sources that nothing closes yet: one is that was refused before it was taken.
  const untaken = new Set([input, options.htab]);
  const take: Take = (given) => {
    untaken.delete(given);
    return given;
  };
  try {
    checkEdits(options);
    if (typeof output !== 'string') {
      return await rewriteTo(new PipeSink(output), input, options, take);
    }
    // First, so that a file that exists is refused before anything is read or copied.
    await using file = await AtomicFile.create(output, options);
    const result = await rewriteTo(file, input, options, take);
    await file.commit();
    return result;
  } finally {
    for (const given of untaken) if (typeof given === 'object') await given.close();
  }
}

/** To be called with an input by who closes it from then on. */
type Take = <T extends string | ByteSource>(given: T) => T;

/** What is wrong with the edits alone, before anything is opened. */
function checkEdits(options: RewriteOptions): void {
  const { order, machine, xml, container, compress, limits } = options;
  if (order !== undefined && !isOrder(order)) throw noSuchOrder(order);
  if (machine !== undefined) checkMachine(machine);
  if (xml !== undefined) checkXml(xml, limits);
  if (container !== undefined) chooseWrapping(undefined, { container, compress }, undefined);
}

async function rewriteTo(
  sink: ByteSink,
  input: string | ByteSource,
  options: RewriteOptions,
  take: Take,
): Promise<RewriteResult> {
  const turns = new Turns(options);
  const { signal, limits } = options;
  await using outer = await Reopenable.of(take(input), (source) =>
    seekable(source, { signal, limits, onProgress: turns.begin(3) }),
  );
  await using opened = await openSnapshot(outer, options);
  const { info, byteOrder, table } = await survey(opened, options, turns.begin(2));
  await using replacement = await replacementOf(options, take);

  const edits: HptPlan = { ...options, replacement };
  const places = editsHpt(edits) ? placesOf(info) : [];
  // What the payloads are read from; another one by the time when they are written.
  let reading: ByteSource = opened.source;
  const present = {
    order: info.hpt?.order,
    radix: info.hpt?.radix ?? false,
    parts: places.length - 1,
    items: () => itemsAt(reading, places, byteOrder),
    table,
  };
  const plan = await planHpt(present, edits, { signal, limits });
  const hpt = (await changesHpt(plan, outer, opened, places, options)) ? plan.items : undefined;
  const wrapping = wrappings(opened, info, options);
  const header = headerFor(wrapping.after, opened.libvirt, options);
  const front = frontOf(wrapping, options);

  const copying = { signal, onProgress: turns.begin(1) };
  let tally: Tally | undefined;
  const identical =
    hpt === undefined &&
    !changesMachine(info, options) &&
    !changesAround(opened, wrapping, header, front, options);
  if (identical) {
    await splice(outer.open(), 0, [], sink, copying);
  } else {
    // What can only be read forward is opened once more.
    await using again = opened.source.seekable ? undefined : await openSnapshot(outer, options);
    const { source, start } = again ?? opened;
    reading = source;
    await using payloads = hpt && new HptPatches(hpt(), places, signal);
    const patches = [
      ...(payloads?.patches ?? []),
      ...machineEdits(source, info, options),
      ...mappedPatches(source, info.ram, copying),
    ];
    if (front > 0) await sink.copy(outer.open(), 0, front, copying);
    await sink.append(header);
    const stream = { source, start, patches: patches.sort((a, b) => a.from - b.from) };
    await writeStream(stream, wrapping.after, sink, copying);
    tally = payloads?.tally;
  }
  const machine = { before: info.configuration?.machine, after: machineAfter(info, options) };
  return {
    identical,
    bytes: { before: outer.size, after: sink.position },
    machine,
    wrapping,
    hpt: hptResult(info, tally),
    rehashed: plan.rehashed,
    warnings: [
      ...opened.warnings,
      ...streamWarnings(info),
      ...plan.notes.map((note) => warning('W_HPT', note)),
      ...aroundWarnings(opened, header, identical, machine.after),
    ],
  };
}

async function openSnapshot(outer: Reopenable, options: RewriteOptions): Promise<HptInput> {
  const { snapshot, offset, signal, limits } = options;
  const reading = { snapshot, offset, signal, limits };
  const opened = await openContainer(outer.open(), containerOptions(reading));
  const input = await openInside(opened, reading);
  if (input.format === 'snapshot') return input;
  await input.close();
  throw new UsageError(
    'E_USAGE',
    `${input.name} holds ${FORMAT_NAMES[input.format]} and no snapshot; 'convert' translates it`,
  );
}

interface Survey {
  readonly info: StreamInfo;
  /** Of the chunk headers. */
  readonly byteOrder: ByteOrder;
  readonly table: HashPageTable | undefined;
}

/** Walks the stream, and builds its table where that is needed. */
async function survey(
  { source, start }: HptInput,
  options: RewriteOptions,
  onProgress: OperationOptions['onProgress'],
): Promise<Survey> {
  const whole = options.htab === undefined && needsTable(options);
  const builder = whole ? new TableBuilder(undefined, options.limits) : undefined;
  let hpt = false;
  let byteOrder: ByteOrder = 'big';
  const info = await describeStream(source, {
    start,
    signal: options.signal,
    limits: options.limits,
    onProgress,
    onHtab: (item) => {
      hpt ||= item.type === 'order';
      builder?.add(item);
    },
    onLittleEndian: () => {
      byteOrder = 'little';
    },
  });
  const table = hpt && info.hpt?.radix === false ? builder?.finish() : undefined;
  return { info, byteOrder, table };
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

async function replacementOf(
  options: RewriteOptions,
  take: Take,
): Promise<ReplacementHpt | undefined> {
  const { htab, htabOptions, signal, limits } = options;
  if (htab === undefined) return undefined;
  return ReplacementHpt.open(take(htab), { ...htabOptions, signal, limits });
}

function editsHpt({ replacement, order, boltedOnly, compact }: HptPlan): boolean {
  return replacement !== undefined || order !== undefined || Boolean(boltedOnly || compact);
}

function machineAfter(info: StreamInfo, { machine }: RewriteOptions): string | undefined {
  return machine ?? info.configuration?.machine;
}

function changesMachine(info: StreamInfo, options: RewriteOptions): boolean {
  return options.machine !== undefined && info.configuration?.machine !== options.machine;
}

function machineEdits(source: ByteSource, info: StreamInfo, options: RewriteOptions): Patch[] {
  const { machine, limits } = options;
  if (machine === undefined) return [];
  return machinePatches(source, machine, info.configuration, info.vmdesc, limitsOf(limits));
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

function wrappings(
  { layers }: HptInput,
  info: StreamInfo,
  options: RewriteOptions,
): RewriteResult['wrapping'] {
  const before = wrappingOf(layers);
  return { before, after: chooseWrapping(before, options, hasMappedRam(info)) };
}

/** Bytes in front of the container: they stay, unless another container was asked for. */
function frontOf({ before }: RewriteResult['wrapping'], options: RewriteOptions): number {
  return before !== undefined && options.container === undefined ? (options.offset ?? 0) : 0;
}

/** Whether anything around the stream becomes another one. */
function changesAround(
  opened: HptInput,
  { before, after }: RewriteResult['wrapping'],
  header: Buffer,
  front: number,
  options: RewriteOptions,
): boolean {
  const same = before?.container === after.container && before.format === after.format;
  const sameHeader = header.equals(opened.libvirt ?? Buffer.alloc(0));
  // Of containers in one another, what was asked for stands alone.
  const asked = options.container !== undefined || options.compress !== undefined;
  const nested = asked && opened.layers.length > 1;
  return !same || !sameHeader || nested || front !== (options.offset ?? 0);
}

function aroundWarnings(
  { layers }: HptInput,
  header: Buffer,
  identical: boolean,
  machine: string | undefined,
): RewriteWarning[] {
  const warnings: RewriteWarning[] = [];
  const other = header.length === 0 ? undefined : otherMachine(header, machine);
  if (other !== undefined) warnings.push(warning('W_XML_MACHINE', other));
  if (layers.length > 1 && !identical) {
    const names = layers.map(({ kind }) => kind).join(' of ');
    const message = `the input is ${names}; the output has one container or compression at most`;
    warnings.push(warning('W_CONTAINER', message));
  }
  return warnings;
}
