import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  BufferSource,
  type ConvertOptions,
  convert as convertFile,
  type HptFormat,
} from 'spapr-htab';
import { plainKernel, plainSection, plainTable } from '../../helpers/reference.js';
import { boltedTable, guestWith } from '../../rewrite/support.js';
import { archives, kernelBlocks, longBlocks, sections, streams } from '../corpus.js';
import { digest, textOf } from '../digest.js';
import { blocksFrom, firstPass, ORDER, payloads } from '../generate/blocks.js';
import { guestRecipes } from '../generate/streams.js';
import { type Job, must, type Target } from '../target.js';
import { anyLayout, wrapsOthers } from './any.js';

/** Largest output that is read again: an image may be of 64 TiB, all of it holes. */
const MOST = 64 * 1024 * 1024;
/** Largest order whose table is compared. */
const MOST_ORDER = 21;

const VARIANTS: Readonly<Record<string, ConvertOptions & { to: HptFormat }>> = {
  section: { to: 'section' },
  kernel: { to: 'kernel' },
  'kernel, marked': { to: 'kernel', outputByteOrder: 'big', markParts: true },
  archive: { to: 'archive' },
  image: { to: 'image' },
  canonical: { to: 'section', canonical: true },
  bolted: { to: 'section', boltedOnly: true },
  'blocks of order 22': { to: 'kernel', from: 'kernel', byteOrder: 'little', order: 22 },
};
const [FIRST = 'section', ...OTHERS] = Object.keys(VARIANTS);

/** The HPT out of anything, into a file of any format. */
export const convert: Target = {
  name: 'convert',
  variants: [FIRST, ...OTHERS],
  feeds: 'any',
  valid: fc.oneof(
    guestRecipes.map((recipe) => ({
      bytes: guestWith({ ...recipe, footers: true }),
      variant: FIRST,
    })),
    payloads.map((list) => ({ bytes: Buffer.concat(list), variant: FIRST })),
    firstPass.map((list) => ({ bytes: blocksFrom(list, true), variant: FIRST })),
  ),
  seeds: async () => {
    const lists = [streams, sections, archives, kernelBlocks, longBlocks];
    return (await Promise.all(lists.map((list) => list()))).flat();
  },
  layout: anyLayout,
  wraps: wrapsOthers,
  parse: async (source, { folder, variant }) => {
    const path = join(folder, 'output');
    const options = VARIANTS[variant] ?? { to: 'section' };
    const result = await convertFile(source, path, options);
    must(readdirSync(folder).join() === 'output', 'left over', () => readdirSync(folder).join());
    const { size, mode } = statSync(path);
    must((mode & 0o777) === 0o600, 'mode', () => (mode & 0o777).toString(8));
    must(result.bytes === size, 'size', () => `${size} bytes, not ${result.bytes}`);
    const content = size > MOST ? '' : outputDigest(path, options.to);
    const { from, order, radix, parts, warnings } = result;
    const codes = [...new Set(warnings.map(({ code }) => code))].sort().join();
    return {
      value: `${textOf(result)} ${content}`,
      kind: `${from} ${order} ${radix} ${Math.min(parts, 4)} ${codes}`,
      offsets: warnings.map(({ offset }) => offset),
    };
  },
  check: compareTables,
};

/** Of an archive without the time when it was written, and so without its checksum. */
function outputDigest(path: string, format: HptFormat): string {
  const bytes = readFileSync(path);
  if (format !== 'archive') return digest(bytes);
  const text = bytes.toString('latin1', 0, bytes.length - 34);
  return digest(Buffer.from(text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/, ''), 'latin1'));
}

/** The table is the same by every way, as a plain reader of the outputs has it. */
async function compareTables({ bytes, folder, variant }: Job): Promise<void> {
  const { from, byteOrder, order } = VARIANTS[variant] ?? { from: undefined };
  const input = { from, byteOrder, order };
  const to = async (name: string, options: ConvertOptions): Promise<Buffer | undefined> => {
    const path = join(folder, name);
    await convertFile(new BufferSource(bytes), path, { ...input, ...options });
    return existsSync(path) && statSync(path).size <= MOST ? readFileSync(path) : undefined;
  };
  let first: Buffer | undefined;
  try {
    first = await to('section', { to: 'section' });
  } catch {
    // Blocks of a table whose order is not known.
    return;
  }
  if (first === undefined) return;
  const section = plainSection(first);
  if (section.order === null || section.order > MOST_ORDER) return;
  // A second START begins another table, and what came before is nothing.
  if (starts(first) !== 1) return;
  const table = plainTable(section.order, section.parts.flat());
  const kernel = await to('kernel', { to: 'kernel' });
  const again = kernel && plainTable(section.order, plainKernel(kernel, true));
  must(again?.equals(table) ?? false, 'same table', () => 'kernel and section differ');
  const canonical = await to('canonical', { to: 'section', canonical: true });
  const valid = canonical && plainSection(canonical);
  const rebuilt = valid && plainTable(valid.order ?? ORDER, valid.parts.flat());
  const clean = cleaned(table);
  must(rebuilt?.equals(clean) ?? false, 'same table', () => 'canonical and section differ');
  const bolted = await to('bolted', { to: 'section', boltedOnly: true, canonical: true });
  const kept = bolted && plainTable(section.order, plainSection(bolted).parts.flat());
  const bolt = boltedTable(clean);
  must(kept?.equals(bolt) ?? false, 'same table', () => 'bolted entries differ');
  const image = await to('image', { to: 'image' });
  must(image?.equals(table) ?? false, 'same table', () => 'image and section differ');
}

/** What the canonical form keeps: entries with V, without the hypervisor's own bits. */
function cleaned(table: Buffer): Buffer {
  const clean = Buffer.from(table);
  for (let at = 0; at < clean.length; at += 16) {
    const flags = clean[at + 7] ?? 0;
    if ((flags & 1) === 0) clean.fill(0, at, at + 16);
    else {
      clean[at + 7] = flags & ~0x60;
      clean[at + 8] = (clean[at + 8] ?? 0) & ~0x40;
    }
  }
  return clean;
}

function starts(section: Buffer): number {
  let count = 0;
  for (let at = 0; at + 4 <= section.length; ) {
    const word = section.readUInt32BE(at);
    at += 4;
    if (word !== 0) count++;
    if (word !== 0) continue;
    while (section.readBigUInt64BE(at) !== 0n) at += 8 + section.readUInt16BE(at + 4) * 16;
    at += 8;
  }
  return count;
}
