import { readFileSync } from 'node:fs';
import {
  BufferSource,
  boltedOnly,
  canonical,
  convert,
  encodeKernel,
  type HptFormat,
  openHpt,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { FIXTURES, fixturesOf, load } from './helpers/fixtures.js';
import {
  type PlainBlock,
  plainElements,
  plainEncode,
  plainKernel,
  plainSection,
  plainTable,
} from './helpers/reference.js';
import { collect, scratchFile } from './helpers/sources.js';

/**
 * Guests whose table was read twice while they were stopped: blocks of the kernel's HTAB fd, and QEMU's
 * own `spapr/htab` sections. QEMU has its entries from the same fd (kvmppc_save_htab,
 * target/ppc/kvm.c), so bit 0x40 of a first doubleword is set in both and nothing is masked here.
 */
const PAIRS = fixturesOf('section-elements').flatMap((section) => {
  const other = (extension: string) =>
    FIXTURES.find(({ file }) => file === section.file.replace('.htabsec.', extension));
  const [kernel, bolted] = [other('.htab.'), other('.bolted.')];
  if (kernel === undefined || bolted === undefined) return [];
  const name = section.file.replace('.htabsec.gz', '');
  const order = section.order ?? 0;
  return [{ name, order, section, kernel, bolted }];
});

/** Those that were stopped before the migration: it has one pass over the table, like ours. */
const STOPPED = PAIRS.filter(({ section }) => section.description.includes('stopped before'));

async function converted(
  input: Uint8Array,
  to: HptFormat,
  options: Parameters<typeof convert>[2] = {},
): Promise<Buffer> {
  const path = scratchFile(`pair.${to}`);
  await convert(new BufferSource(input), path, { ...options, to });
  return readFileSync(path);
}

const blocksOf = (section: Buffer): PlainBlock[] => plainSection(section).parts.flat();

test('there are pairs of POWER8 and POWER9, live and stopped', () => {
  expect(PAIRS.map(({ name }) => name).sort()).toEqual(
    ['h8-guest', 'l9dis-guest', 'p8-guest', 'p9-guest'].map((name) => `kvm/${name}`),
  );
  expect(STOPPED.length).toBe(3);
});

describe.each(PAIRS)('$name', ({ order, section, kernel, bolted }) => {
  const payloads = plainElements(load(section));
  const blocks = load(kernel);
  const table = plainTable(order, blocksOf(payloads));

  test("the kernel's blocks become a section with the table of QEMU's, entry for entry", async () => {
    const ours = await converted(blocks, 'section');
    expect(plainSection(ours).order).toBe(order);
    expect(plainTable(order, blocksOf(ours)).equals(table)).toBe(true);
  });

  test("QEMU's section becomes blocks with the table of the kernel's, entry for entry", async () => {
    const ours = await converted(payloads, 'kernel', { outputByteOrder: 'little' });
    const theirs = plainTable(order, plainKernel(blocks, true));
    expect(plainTable(order, plainKernel(ours, true)).equals(theirs)).toBe(true);
    expect(theirs.equals(table)).toBe(true);
  });

  test.each(['section', 'kernel', 'image'] as const)('one canonical %s of both', async (to) => {
    const options = { canonical: true, outputByteOrder: 'little' } as const;
    const ofKernel = await converted(blocks, to, options);
    expect(ofKernel.length).toBeGreaterThan(blocks.length / 2);
    expect((await converted(payloads, to, options)).equals(ofKernel)).toBe(true);
  });

  test("what is bolted in QEMU's section is the kernel's BOLTED_ONLY read", async () => {
    await using hpt = await openHpt(new BufferSource(payloads));
    const items = canonical(boltedOnly(hpt.items()), 'kernel');
    const ours = plainKernel(await collect(encodeKernel(items, { byteOrder: 'little' })), true);
    // The canonical form is without the bits of the software.
    const theirs = plainKernel(load(bolted), true).map(({ entries, ...block }) => {
      const clean = Buffer.from(entries);
      for (let at = 7; at < clean.length; at += 16) clean[at] = (clean[at] ?? 0) & ~0x60;
      return { ...block, entries: clean };
    });
    expect(plainEncode(ours, true).equals(plainEncode(theirs, true))).toBe(true);
  });
});

describe.each(STOPPED)('$name, one pass each', ({ section, kernel }) => {
  const payloads = plainElements(load(section));
  const blocks = load(kernel);

  test('the blocks are the same but for cuts, and keep theirs on the way', async () => {
    const section = await converted(blocks, 'section');
    expect(plainEncode(blocksOf(section), true).equals(blocks)).toBe(true);
    const kernel = await converted(payloads, 'kernel', { outputByteOrder: 'little' });
    const theirs = blocksOf(payloads);
    expect(kernel.equals(plainEncode(theirs, true))).toBe(true);
    expect(text(joined(theirs)) === text(joined(plainKernel(blocks, true)))).toBe(true);
  });
});

/**
 * Without the cuts where a read was full, QEMU's being of 2 KiB (MAX_KVM_BUF_SIZE, hw/ppc/spapr.c), and
 * where a run has more than 65535.
 */
function joined(blocks: readonly PlainBlock[]): PlainBlock[] {
  const whole: PlainBlock[] = [];
  for (const block of blocks) {
    const last = whole.at(-1);
    const end = last === undefined ? -1 : last.index + last.entries.length / 16 + last.nInvalid;
    if (
      last === undefined ||
      end !== block.index ||
      (last.nInvalid > 0 && block.entries.length > 0)
    ) {
      whole.push(block);
      continue;
    }
    const { index, entries, nInvalid } = last;
    const both = Buffer.concat([entries, block.entries]);
    whole[whole.length - 1] = { index, entries: both, nInvalid: nInvalid + block.nInvalid };
  }
  return whole;
}

/** Runs may be longer than a header can say. */
const text = (blocks: readonly PlainBlock[]): string =>
  blocks
    .map((block) => `${block.index} ${block.entries.toString('hex')} ${block.nInvalid}\n`)
    .join('');
