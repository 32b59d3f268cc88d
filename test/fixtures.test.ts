import { readdirSync, readFileSync } from 'node:fs';
import {
  BufferSource,
  ByteReader,
  boltedOnly,
  canonical,
  convert,
  decodeKernel,
  decodeSection,
  encodeKernel,
  encodeSection,
  HashPageTable,
  type HptFormat,
  openHpt,
  readSnapshotHtab,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import {
  CONTAINERS,
  FIXTURES,
  type Fixture,
  fixture,
  fixturesOf,
  fixtureUrl,
  load,
} from './helpers/fixtures.js';
import {
  plainElements,
  plainEncode,
  plainKernel,
  plainSection,
  plainTable,
} from './helpers/reference.js';
import { collect, SOURCE_KINDS, scratchFile, withSource } from './helpers/sources.js';

const MASK = { ignoreSoftwareBits: true };

/** Converts and gives back the bytes of the output. */
async function converted(
  input: Uint8Array | string,
  to: HptFormat,
  options: Parameters<typeof convert>[2] = {},
): Promise<Buffer> {
  const path = scratchFile(`out.${to}`);
  const source = typeof input === 'string' ? input : new BufferSource(input);
  await convert(source, path, { ...options, to });
  return readFileSync(path);
}

test('every file under fixtures/ is in the manifest, and every entry has its file', () => {
  const files = ['containers', 'kvm', 'qemu'].flatMap((folder) =>
    readdirSync(fixtureUrl(folder)).map((name) => `${folder}/${name}`),
  );
  expect(FIXTURES.map(({ file }) => file).sort()).toEqual(files.sort());
});

test('the suite below, or containers.fixtures.test.ts, takes every format of the manifest', () => {
  const known = [...SNAPSHOTS, ...KERNEL, ...ELEMENTS, ...CONTAINERS].map(({ file }) => file);
  expect(known.sort()).toEqual(FIXTURES.map(({ file }) => file).sort());
  expect(SNAPSHOTS.length).toBeGreaterThan(5);
  expect(KERNEL.length).toBeGreaterThan(5);
});

const SNAPSHOTS = fixturesOf('snapshot');
const KERNEL = fixturesOf('kernel');
const ELEMENTS = fixturesOf('section-elements');

/** The section of a snapshot by the codec; each test compares it with something else. */
function sectionOf(bytes: Uint8Array): Promise<Buffer> {
  return collect(encodeSection(readSnapshotHtab(new BufferSource(bytes))));
}

describe.each(SNAPSHOTS)('snapshot $file', (item) => {
  const bytes = load(item);

  test('its section payloads stand in the stream, piece for piece', async () => {
    const section = await sectionOf(bytes);
    // Found without the walk: START's element, which names the section, and its order word.
    const name = bytes.indexOf('\x0aspapr/htab', 0, 'latin1');
    expect(name).toBeGreaterThan(0);
    expect(section.subarray(0, 4)).toEqual(bytes.subarray(name + 19, name + 23));
    const parts = section.subarray(4);
    const { order, parts: plain } = plainSection(section);
    expect(order).toBe(item.order);
    // Every later payload is found behind a PART or END element with the section's id.
    const id = bytes.subarray(name - 4, name);
    let at = name + 23;
    let rest = parts;
    const words = order === null ? rest.length / 4 : plain.length;
    for (let i = 0; i < words; i++) {
      const length = order === null ? 4 : 4 + plainEncode(plain[i] ?? [], false).length + 8;
      const payload = rest.subarray(0, length);
      const found = [2, 3]
        .map((type) => bytes.indexOf(Buffer.concat([Buffer.of(type), id, payload]), at))
        .filter((position) => position >= 0);
      expect(found.length).toBeGreaterThan(0);
      at = Math.min(...found) + 5 + length;
      rest = rest.subarray(length);
    }
    expect(rest.length).toBe(0);
  });

  // One byte at a time takes seconds for each MiB: the streams without RAM are enough for that.
  const kinds = SOURCE_KINDS.filter(({ name }) => bytes.length < 2 ** 22 || !name.includes('byte'));
  test.each(kinds)('the same section from a $name', async ({ open }) => {
    const expected = await sectionOf(bytes);
    const source = await open(bytes);
    await using hpt = await openHpt(source);
    expect(hpt.format).toBe('snapshot');
    expect((await collect(hpt.encode('section'))).equals(expected)).toBe(true);
  });

  test('section, kernel, image and archive agree with a plain reading', async () => {
    const section = await sectionOf(bytes);
    expect((await converted(bytes, 'section')).equals(section)).toBe(true);
    const { order, parts } = plainSection(section);
    const blocks = parts.flat();
    const little = await converted(bytes, 'kernel');
    expect(little.equals(plainEncode(blocks, true))).toBe(true);
    const big = await converted(bytes, 'kernel', { outputByteOrder: 'big' });
    expect(big.equals(plainEncode(blocks, false))).toBe(true);
    const archive = await converted(bytes, 'archive');
    expect((await converted(archive, 'section')).equals(section)).toBe(true);
    if (order === null) {
      await expect(converted(bytes, 'image')).rejects.toMatchObject({ code: 'E_NO_HPT' });
      return;
    }
    const image = await converted(bytes, 'image');
    expect(image.equals(plainTable(order, blocks))).toBe(true);
  });

  test('kernel blocks and back, parts marked: the same section', async () => {
    const section = await sectionOf(bytes);
    if (item.order === null) return;
    for (const byteOrder of ['little', 'big'] as const) {
      const marked = await converted(bytes, 'kernel', {
        markParts: true,
        outputByteOrder: byteOrder,
      });
      const back = await converted(marked, 'section', {
        from: 'kernel',
        byteOrder,
        order: item.order,
      });
      expect(back.equals(section)).toBe(true);
    }
  });

  test('canonical forms hold the same table', async () => {
    if (item.order === null) {
      expect((await converted(bytes, 'section', { canonical: true })).toString('hex')).toBe(
        'ffffffff',
      );
      return;
    }
    await using hpt = await openHpt(new BufferSource(bytes));
    const table = await hpt.table();
    for (const to of ['section', 'kernel', 'image', 'archive'] as const) {
      const output = await converted(bytes, to, { canonical: true });
      await using again = await openHpt(new BufferSource(output));
      expect(again.format).toBe(to);
      const same = await again.table();
      expect(same.equals(table, MASK)).toBe(true);
      expect((await converted(output, to, { canonical: true, from: to })).equals(output)).toBe(
        to !== 'archive',
      );
    }
  });
});

describe.each(KERNEL)('kernel blocks $file', (item) => {
  const bytes = load(item);
  const order = item.order ?? 24;

  test('decode and encode give the same bytes, from every kind of source', async () => {
    for (const kind of SOURCE_KINDS) {
      const out = await withSource(kind, bytes, (source) => {
        const items = decodeKernel(new ByteReader(source), { byteOrder: 'little', order });
        return collect(encodeKernel(items, { byteOrder: 'little' }));
      });
      expect(out.equals(bytes)).toBe(true);
    }
  });

  test('it is recognised, byte order and all', async () => {
    await using hpt = await openHpt(new BufferSource(bytes));
    expect(hpt).toMatchObject({ format: 'kernel', byteOrder: 'little' });
    const big = await converted(bytes, 'kernel', { outputByteOrder: 'big' });
    await using swapped = await openHpt(new BufferSource(big));
    expect(swapped).toMatchObject({ format: 'kernel', byteOrder: 'big' });
    expect((await converted(big, 'kernel')).equals(bytes)).toBe(true);
  });

  test('to section and back: the same blocks', async () => {
    const section = await converted(bytes, 'section', { order });
    const { order: written, parts } = plainSection(section);
    expect(written).toBe(order);
    expect(parts.length).toBe(1);
    expect(plainEncode(parts[0] ?? [], true).equals(bytes)).toBe(true);
    expect((await converted(section, 'kernel')).equals(bytes)).toBe(true);
  });

  test('the image is the table that applying the blocks gives', async () => {
    const image = await converted(bytes, 'image', { order });
    expect(image.equals(plainTable(order, plainKernel(bytes, true)))).toBe(true);
    const kernel = await converted(image, 'kernel', { canonical: true });
    const direct = await converted(bytes, 'kernel', { canonical: true, order });
    expect(kernel.equals(direct)).toBe(true);
  });

  test('archive and back', async () => {
    const archive = await converted(bytes, 'archive', { order });
    expect((await converted(archive, 'kernel')).equals(bytes)).toBe(true);
  });
});

describe.each(ELEMENTS)('section elements $file', (item) => {
  const section = plainElements(load(item));

  test('decode and encode give the same bytes, from every kind of source', async () => {
    for (const kind of SOURCE_KINDS) {
      const out = await withSource(kind, section, (source) =>
        collect(encodeSection(decodeSection(new ByteReader(source)))),
      );
      expect(out.equals(section)).toBe(true);
    }
  });

  test('the kernel read the same table from the same guest', async () => {
    const name = item.file.replace('.htabsec.', '.htab.');
    const pair = FIXTURES.find(({ file }) => file === name);
    if (pair === undefined) {
      expect(item.order).toBeNull();
      return;
    }
    const order = item.order ?? 0;
    const raw = decodeKernel(new ByteReader(new BufferSource(load(pair))), {
      byteOrder: 'little',
    });
    const kernel = await HashPageTable.from(raw, order);
    const qemu = await HashPageTable.from(decodeSection(new ByteReader(new BufferSource(section))));
    expect(qemu.equals(kernel)).toBe(true);
  });
});

describe('what the real kernel gives', () => {
  const guests = ['h8-guest', 'l9dis-guest', 'p8-guest', 'p9-guest'];
  const decode = (item: Fixture) =>
    decodeKernel(new ByteReader(new BufferSource(load(item))), {
      byteOrder: 'little',
      order: item.order ?? 22,
    });

  test.each(guests)('%s: bolted-only of the whole is its BOLTED_ONLY read', async (guest) => {
    const whole = fixture(`kvm/${guest}.htab.gz`);
    const bolted = fixture(`kvm/${guest}.bolted.gz`);
    const out = await collect(encodeKernel(boltedOnly(decode(whole)), { byteOrder: 'little' }));
    expect(out.equals(load(bolted))).toBe(true);
  });

  test.each(guests)('%s: canonical blocks are its first pass, bit 0x40 aside', async (guest) => {
    const whole = fixture(`kvm/${guest}.htab.gz`);
    const out = await collect(
      encodeKernel(canonical(decode(whole), 'kernel'), { byteOrder: 'little' }),
    );
    const blocks = plainKernel(load(whole), true).map(({ index, entries, nInvalid }) => {
      const clean = Buffer.from(entries);
      for (let at = 7; at < clean.length; at += 16) clean[at] = (clean[at] ?? 0) & ~0x60;
      return { index, entries: clean, nInvalid };
    });
    expect(out.equals(plainEncode(blocks, true))).toBe(true);
  });

  test('a first pass and its delta give the table of a fresh first pass', async () => {
    const first = fixture('kvm/p8-many-r1048576.htab.gz');
    const table = await HashPageTable.from(decode(first));
    for await (const piece of decode(fixture('kvm/p8-many-delta.htab.gz'))) {
      if (piece.type === 'blocks') table.apply(piece.batch);
    }
    const after = await HashPageTable.from(decode(fixture('kvm/p8-many-after.htab.gz')));
    expect(table.equals(after, MASK)).toBe(true);
    expect(table.counts()).toEqual(after.counts());
  });

  test('reads of 2 KiB and of 1 MiB frame the same table', async () => {
    const [small, large] = ['r2048', 'r1048576'].map((n) => fixture(`kvm/p8-many-${n}.htab.gz`));
    if (small === undefined || large === undefined) throw new Error('fixtures are missing');
    const a = await HashPageTable.from(decode(small));
    const b = await HashPageTable.from(decode(large));
    expect(a.equals(b)).toBe(true);
    expect(a.counts()).toMatchObject({ valid: 100008 });
  });
});
