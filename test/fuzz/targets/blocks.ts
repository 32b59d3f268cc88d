import fc from 'fast-check';
import {
  ByteReader,
  type ByteSource,
  decodeImage,
  decodeKernel,
  decodeSection,
  encodeKernel,
  encodeSection,
  writeImage,
} from 'spapr-htab';
import { plainKernel, plainSection, plainTable } from '../../helpers/reference.js';
import { kernelBlocks, sections } from '../corpus.js';
import { DigestFile, gathered, ItemLog, logged } from '../digest.js';
import { blocksFrom, firstPass, ORDER, payloads, shapes } from '../generate/blocks.js';
import { NO_LAYOUT } from '../layout.js';
import { blocksLayout, sectionLayout } from '../layouts/blocks.js';
import { type Job, must, type Parsed, type Target } from '../target.js';

const MARK = Buffer.alloc(8);

/** HTAB blocks as the kernel frames them. */
export const kernel: Target = {
  name: 'kernel',
  variants: ['little', 'big', `little ${ORDER}`, `big ${ORDER}`, 'little 22'],
  feeds: 'any',
  valid: fc
    .tuple(fc.oneof(shapes, firstPass), fc.boolean(), fc.boolean())
    .map(([list, little, ordered]) => ({
      bytes: blocksFrom(list, little),
      variant: `${little ? 'little' : 'big'}${ordered ? ` ${ORDER}` : ''}`,
    })),
  seeds: kernelBlocks,
  layout: (bytes) => blocksLayout(bytes, true),
  parse: async (source, { bytes, variant }) => {
    const [byteOrder, number] = variant.split(' ') as ['little' | 'big', string?];
    const log = new ItemLog();
    await using reading = source;
    const order = number === undefined ? undefined : Number(number);
    const items = logged(decodeKernel(new ByteReader(reading), { byteOrder, order }), log);
    const again = await gathered(encodeKernel(items, { byteOrder, markParts: true }));
    // A mark ends each part, the last one too, whether or not it has one in the file.
    const whole = Buffer.concat([bytes, MARK]);
    must(again.equals(bytes) || again.equals(whole), 're-encoding', () => 'other blocks');
    const plain = new ItemLog();
    plain.plain(plainKernel(bytes, byteOrder === 'little').filter((b) => !isMark(b)));
    const counts = [log.blocks, log.valid].join();
    must(counts === [plain.blocks, plain.valid].join(), 'plain model', () => counts);
    return { value: log.text(), kind: log.kind(), offsets: log.offsets };
  },
};

function isMark(block: { index: number; entries: Buffer; nInvalid: number }): boolean {
  return block.index === 0 && block.entries.length === 0 && block.nInvalid === 0;
}

/** Payloads of `spapr/htab` one after another. */
export const section: Target = {
  name: 'section',
  variants: ['told', 'big', 'little'],
  feeds: 'any',
  valid: payloads.map((list) => ({ bytes: Buffer.concat(list), variant: 'big' })),
  seeds: sections,
  layout: (bytes) => sectionLayout(bytes),
  parse: parseSection,
};

async function parseSection(source: ByteSource, { bytes, variant }: Job): Promise<Parsed> {
  const log = new ItemLog();
  let little = variant === 'little';
  await using reading = source;
  const items = decodeSection(new ByteReader(reading), {
    byteOrder: variant === 'told' ? undefined : (variant as 'little' | 'big'),
    onLittleEndian: () => {
      little = true;
    },
  });
  const again = await gathered(encodeSection(logged(items, log)));
  if (!little) {
    must(again.equals(bytes), 're-encoding', () => 'other bytes');
    const plain = new ItemLog();
    plain.plain(plainSection(bytes).parts.flat());
    must(log.blocks === plain.blocks, 'plain model', () => `${log.blocks} blocks`);
  } else {
    must(again.length === bytes.length, 're-encoding', () => 'another length');
  }
  return { value: log.text(), kind: `${little} ${log.kind()}`, offsets: log.offsets };
}

/** A flat table of the smallest order. */
export const image: Target = {
  name: 'image',
  variants: [`${ORDER}`, '19'],
  feeds: 'any',
  valid: shapes.map((list) => ({
    bytes: plainTable(ORDER, plainKernel(blocksFrom(list, true), true)),
    variant: `${ORDER}`,
  })),
  layout: () => NO_LAYOUT,
  parse: async (source, { bytes, variant }) => {
    const log = new ItemLog();
    const file = new DigestFile();
    let notValid = 0;
    await using reading = source;
    const items = decodeImage(new ByteReader(reading), Number(variant), () => notValid++);
    await writeImage(logged(items, log), file);
    const again = Buffer.alloc(file.size);
    await file.read(again, 0);
    const [table, others] = validOnly(bytes);
    must(again.equals(table), 're-encoding', () => 'the image is another one');
    must(notValid === others, 'plain model', () => `${notValid} slots, not ${others}`);
    return { value: `${log.text()} ${notValid}`, kind: log.kind(), offsets: log.offsets };
  },
};

/** The table without what has no V, and how many slots have that. */
function validOnly(bytes: Buffer): [Buffer, number] {
  const table = Buffer.from(bytes);
  let others = 0;
  for (let at = 0; at < table.length; at += 16) {
    if (((table[at + 7] ?? 0) & 1) !== 0) continue;
    if (table.subarray(at, at + 16).some((byte) => byte !== 0)) others++;
    table.fill(0, at, at + 16);
  }
  return [table, others];
}
