import fc from 'fast-check';
import {
  BufferSource,
  describeStream,
  openContainer,
  type RewriteOptions,
  rewrite as rewriteFile,
  type StreamInfo,
} from 'spapr-htab';
import {
  boltedTable,
  type GuestRecipe,
  guestWith,
  type Plain,
  plain,
  wastes,
} from '../../rewrite/support.js';
import { libvirtImages, streams } from '../corpus.js';
import { digest, textOf } from '../digest.js';
import { guestRecipes, libvirtImages as madeLibvirt } from '../generate/streams.js';
import { type Job, must, type Parsed, type Target } from '../target.js';
import { anyLayout, wrapsOthers } from './any.js';

const VARIANTS: Readonly<Record<string, RewriteOptions>> = {
  nothing: {},
  compact: { compact: true },
  bolted: { boltedOnly: true },
  'order 20': { order: 20 },
  machine: { machine: 'pseries-11.0-of-another-length' },
  'as a stream': { container: 'raw' },
  'as a libvirt image': { container: 'libvirt', xml: '<domain/>' },
  'all of it': { compact: true, boltedOnly: true, machine: 'p' },
};
const [FIRST = 'nothing', ...OTHERS] = Object.keys(VARIANTS);
const MOST_ORDER = 21;

/** A snapshot written anew: nothing but what was asked for is another. */
export const rewrite: Target = {
  name: 'rewrite',
  variants: [FIRST, ...OTHERS],
  feeds: 'any',
  valid: fc.oneof(
    guestRecipes.map((recipe: GuestRecipe) => ({
      bytes: guestWith({ ...recipe, footers: true }),
      variant: FIRST,
    })),
    madeLibvirt.map(({ bytes }) => ({ bytes, variant: FIRST })),
  ),
  seeds: async () => [...(await streams()), ...(await libvirtImages())],
  layout: anyLayout,
  wraps: wrapsOthers,
  parse: async (source, { bytes, variant }) => {
    const pieces: Buffer[] = [];
    const write = (piece: Uint8Array): Promise<void> => {
      pieces.push(Buffer.from(piece));
      return Promise.resolve();
    };
    const options = VARIANTS[variant] ?? {};
    const result = await rewriteFile(source, { write }, options);
    const output = Buffer.concat(pieces);
    must(result.bytes.after === output.length, 'size', () => `${output.length} bytes`);
    must(!result.identical || output.equals(bytes), 'identity', () => 'it is said to be the same');
    if (variant === 'nothing') must(output.equals(bytes), 're-encoding', () => 'other bytes');
    const { warnings, hpt } = result;
    const codes = [...new Set(warnings.map(({ code }) => code))].sort().join();
    return {
      value: `${textOf({ ...result, bytes: output.length })} ${digest(output)}`,
      kind: `${codes} ${hpt === undefined} ${result.identical}`,
      offsets: warnings.map(({ offset }) => offset),
    } satisfies Parsed;
  },
  check: compareHpts,
};

/** What is in the output is what a plain reader expects after the edit. */
async function compareHpts({ bytes, variant }: Job): Promise<void> {
  const pieces: Buffer[] = [];
  const options = VARIANTS[variant] ?? {};
  const write = async (piece: Uint8Array): Promise<void> => void pieces.push(Buffer.from(piece));
  await rewriteFile(new BufferSource(bytes), { write }, options);
  const before = await partsOf(bytes);
  const after = await partsOf(Buffer.concat(pieces));
  if (before === undefined || after === undefined) return;
  const count = (info: StreamInfo): number => info.sections.length + info.commands.length;
  const [one, other] = [count(before.info), count(after.info)];
  must(one === other, 'same sections', () => `${other} sections and commands, not ${one}`);
  if (options.order !== undefined || before.hpt === undefined || after.hpt === undefined) return;
  const wanted = options.boltedOnly ? boltedTable(before.hpt.table) : before.hpt.table;
  must(after.hpt.table.equals(wanted), 'same table', () => 'the table is another one');
  if (!options.compact) return;
  const waste = wastes(after.hpt.parts.flat());
  must(waste.length === 0, 'compact', () => waste.join());
}

async function partsOf(
  bytes: Buffer,
): Promise<{ info: StreamInfo; hpt: Plain | undefined } | undefined> {
  await using opened = await openContainer(new BufferSource(bytes));
  const { source, start } = opened;
  if (!(source instanceof BufferSource)) return undefined;
  let little = false;
  const onLittleEndian = (): void => {
    little = true;
  };
  const info = await describeStream(source, { start, onLittleEndian });
  const parts = info.sections.filter(({ name }) => name === 'spapr/htab');
  const order = info.hpt?.order;
  // Little-endian chunk headers are for tests of their own; and several tables, for none.
  const simple = !little && parts.length === 1 && order !== undefined && order <= MOST_ORDER;
  const payloads = parts.flatMap((section) =>
    section.parts.map(({ payloadOffset: at, payloadLength }) =>
      source.bytes.subarray(at, at + payloadLength),
    ),
  );
  return { info, hpt: simple ? plain(Buffer.concat(payloads)) : undefined };
}
