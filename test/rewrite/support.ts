import {
  BufferSource,
  type ByteSource,
  describeStream,
  openContainer,
  type RewriteOptions,
  type RewriteResult,
  rewrite,
  SpaprHtabError,
  type StreamInfo,
} from 'spapr-htab';
import { readAll } from '../container/support.js';
import { CONTAINERS, fixturesOf, load } from '../helpers/fixtures.js';
import { type PlainBlock, plainSection, plainTable } from '../helpers/reference.js';
import {
  command,
  configuration,
  end,
  full,
  header,
  part,
  ram,
  start,
  tail,
  u32,
} from '../helpers/stream.js';

export interface Rewritten {
  readonly bytes: Buffer;
  readonly result: RewriteResult;
}

/** Rewrites into memory. */
export async function rewritten(
  input: string | Uint8Array | ByteSource,
  options: RewriteOptions = {},
): Promise<Rewritten> {
  const pieces: Buffer[] = [];
  const source = input instanceof Uint8Array ? new BufferSource(input) : input;
  const write = (bytes: Uint8Array): Promise<void> => {
    pieces.push(Buffer.from(bytes));
    return Promise.resolve();
  };
  const result = await rewrite(source, { write }, options);
  return { bytes: Buffer.concat(pieces), result };
}

export interface FixtureStream {
  readonly title: string;
  readonly file: string;
  readonly container: 'stream' | 'qcow2' | 'libvirt';
  readonly order: number | null;
  /** What asks for this stream. */
  readonly options: { readonly snapshot?: string; readonly offset?: number };
  readonly bytes: () => Buffer;
}

/** Every stream in every fixture, but for mapped-ram: 260 MiB of holes, which have tests of their own. */
export const STREAMS: readonly FixtureStream[] = [
  ...fixturesOf('snapshot').map((item) => {
    const { file, order } = item;
    const bytes = () => load(item);
    return { title: file, file, container: 'stream' as const, order, options: {}, bytes };
  }),
  ...CONTAINERS.filter(({ holds }) => holds.pages !== 'mapped').flatMap((item): FixtureStream[] => {
    const { file, order, container, offset, sectionSha256 } = item;
    const bytes = () => load(item);
    const common = { file, container, order, bytes };
    if (typeof sectionSha256 === 'string') return [{ ...common, title: file, options: { offset } }];
    return Object.keys(sectionSha256).map((snapshot) => ({
      ...common,
      title: `${file} ${snapshot}`,
      options: { snapshot },
    }));
  }),
];

/** A stream taken apart. */
export interface Anatomy {
  readonly info: StreamInfo;
  /** All that stands inside the containers; the stream begins at `start`. */
  readonly inner: Buffer;
  readonly start: number;
  readonly payloads: readonly Buffer[];
  /** The payloads of `spapr/htab`, one after another. */
  readonly section: Buffer;
  /** What stands before, between and behind them: ids, footers, other sections. */
  readonly outside: readonly Buffer[];
}

const seen = new Map<string, Promise<Anatomy>>();

/** A fixture's stream taken apart, once for all tests of a file. */
export function dissected({ title, bytes, options }: FixtureStream): Promise<Anatomy> {
  const known = seen.get(title) ?? dissect(bytes(), options);
  seen.set(title, known);
  return known;
}

export async function dissect(
  bytes: Uint8Array,
  options: FixtureStream['options'] = {},
): Promise<Anatomy> {
  await using opened = await openContainer(new BufferSource(bytes), options);
  const { start } = opened;
  const inner = await readAll(opened.source);
  const info = await describeStream(new BufferSource(inner), { start });
  const parts = info.sections.find(({ name }) => name === 'spapr/htab')?.parts ?? [];
  const payloads: Buffer[] = [];
  const outside: Buffer[] = [];
  let at = start;
  for (const { payloadOffset, payloadLength } of parts) {
    outside.push(inner.subarray(at, payloadOffset));
    at = payloadOffset + payloadLength;
    payloads.push(inner.subarray(payloadOffset, at));
  }
  outside.push(inner.subarray(at));
  return { info, inner, start, payloads, section: Buffer.concat(payloads), outside };
}

export interface Plain {
  readonly order: number | null;
  readonly parts: PlainBlock[][];
  /** The flat table; empty without HPT. */
  readonly table: Buffer;
}

/** What the independent reader makes of a section. */
export function plain(section: Buffer): Plain {
  const { order, parts } = plainSection(section);
  const table = order === null ? Buffer.alloc(0) : plainTable(order, parts.flat());
  return { order, parts, table };
}

/** The table without what is not valid and bolted. DW0 is big-endian: bits 0x11 are in its last byte. */
export function boltedTable(table: Buffer): Buffer {
  const kept = Buffer.from(table);
  for (let at = 0; at < kept.length; at += 16) {
    if (((kept[at + 7] ?? 0) & 0x11) !== 0x11) kept.fill(0, at, at + 16);
  }
  return kept;
}

/** Reasons why blocks are not the smallest framing of a table: unsorted, split, or with gaps counted. */
export function wastes(blocks: readonly PlainBlock[]): string[] {
  const found: string[] = [];
  let next = -1;
  let full = false;
  for (const { index, entries, nInvalid } of blocks) {
    const count = entries.length / 16;
    if (index < next) found.push(`${index} goes back`);
    if (index === next && !full) found.push(`${index} could join the block before`);
    if (nInvalid > 0 || count === 0) found.push(`${index} says what is empty`);
    next = index + count;
    full = count === 0xffff;
  }
  return found;
}

export function sameBytes(a: readonly Buffer[], b: readonly Buffer[]): boolean {
  return a.length === b.length && a.every((bytes, i) => b[i]?.equals(bytes));
}

/** A small guest, part by part; what is not said is usual. */
export interface GuestRecipe {
  readonly machine?: string | undefined;
  /** Whether there is a configuration element. Default true. */
  readonly configured?: boolean;
  readonly footers?: boolean;
  readonly vmdesc?: boolean;
  /** Commands between the parts. */
  readonly commands?: boolean;
  /** A section of its own before anything iterable starts. */
  readonly early?: boolean;
  /** The payloads of `spapr/htab`: START, then PARTs, of which the last is the END. */
  readonly htab: readonly Buffer[];
  /** Whether the last payload is an END. Default true. */
  readonly ended?: boolean;
}

export function guestWith(recipe: GuestRecipe): Buffer {
  const { machine = 'pseries-7.2', configured = true, commands = false, early = false } = recipe;
  const framing = { footers: recipe.footers ?? true };
  const [first = u32(18), ...rest] = recipe.htab;
  const last = (recipe.ended ?? true) ? rest.pop() : undefined;
  const devices = [...(early ? [{ name: 'early', size: 12 }] : []), { name: 'timer', size: 24 }];
  return Buffer.concat([
    header(),
    configured ? configuration(machine) : Buffer.alloc(0),
    early ? full(9, 'early', 1, Buffer.alloc(12, 0x22), framing) : Buffer.alloc(0),
    start(2, 'ram', 4, ram.setup('ppc_spapr.ram', 1 << 20), framing),
    start(5, 'spapr/htab', 1, first, framing),
    ...rest.flatMap((payload, i) => [
      part(2, ram.round('ppc_spapr.ram', 2 + i), framing),
      part(5, payload, framing),
      commands ? command(11, Buffer.alloc(0)) : Buffer.alloc(0),
    ]),
    end(2, ram.empty, framing),
    last === undefined ? Buffer.alloc(0) : end(5, last, framing),
    full(0, 'timer', 2, Buffer.alloc(24, 0x11), framing),
    tail(recipe.vmdesc === false ? undefined : devices),
  ]);
}

/** The typed error that something rejects with; fails the test when it is no typed error. */
export async function refusal(promise: Promise<unknown>): Promise<SpaprHtabError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof SpaprHtabError) return error;
    throw new Error(`not a typed error: ${String(error)}`, { cause: error });
  }
  throw new Error('there was no error');
}
