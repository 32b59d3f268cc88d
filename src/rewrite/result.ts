import type { RehashCounts } from '../htab/rehash.js';
import { SECTION_NAME } from '../htab/section.js';
import type { Tally } from '../htab/tally.js';
import { printable } from '../printable.js';
import type { StreamInfo } from '../snapshot/describe.js';
import type { Wrapping } from './wrapping.js';

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
  readonly hpt:
    | {
        /** Whether any byte of its sections is another one. */
        readonly changed: boolean;
        readonly before: HptFigures;
        readonly after: HptFigures;
      }
    | undefined;
  /** With another order: what became of the entries. */
  readonly rehashed: RehashCounts | undefined;
  readonly warnings: readonly RewriteWarning[];
}

/** Something that the caller should know but that did not stop the work. */
export interface RewriteWarning {
  readonly code: string;
  readonly offset: number | undefined;
  readonly message: string;
}

/** @param tally of what was written in its place; undefined where nothing was */
export function hptResult(info: StreamInfo, tally: Tally | undefined): RewriteResult['hpt'] {
  const { hpt } = info;
  if (hpt === undefined) return undefined;
  const payloads = info.sections.filter(({ name }) => name === SECTION_NAME);
  const before: HptFigures = {
    order: hpt.order,
    radix: hpt.radix,
    parts: hpt.parts,
    blocks: hpt.blocks,
    entries: hpt.carried,
    bytes: payloads.reduce((sum, { length }) => sum + length, 0),
  };
  if (tally === undefined) return { changed: false, before, after: before };
  const { order, radix, blocks, valid, bytes } = tally;
  // As many as there were: no payload comes or goes.
  const after = { order, radix, parts: before.parts, blocks, entries: valid, bytes };
  return { changed: true, before, after };
}

/** Warnings of how the ends of devices were found: nothing here depends on them. */
const OF_DEVICES: ReadonlySet<string> = new Set(['W_LENGTH_BY_FOOTER', 'W_LENGTH_GUESSED']);

/** What the walk of the stream found that concerns a rewrite. */
export function streamWarnings({ warnings }: StreamInfo): RewriteWarning[] {
  return warnings.filter(({ code }) => !OF_DEVICES.has(code));
}

/** A warning without a place. */
export function warning(code: string, message: string): RewriteWarning {
  return { code, offset: undefined, message: printable(message) };
}
