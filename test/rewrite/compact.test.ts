import { describe, expect, test } from 'vitest';
import { smallGuest } from '../helpers/stream.js';
import {
  boltedTable,
  dissect,
  dissected,
  plain,
  rewritten,
  STREAMS,
  sameBytes,
  wastes,
} from './support.js';

const WITH_HPT = STREAMS.filter(({ order }) => order !== null);

describe.each(WITH_HPT)('$title', (stream) => {
  const { bytes, options, order } = stream;

  test('compact: the same table, said once, and all else untouched', async () => {
    const before = await dissected(stream);
    const { bytes: out, result } = await rewritten(bytes(), { ...options, compact: true });
    const after = await dissect(out, { offset: options.offset ?? 0 });
    expect(sameBytes(after.outside, before.outside)).toBe(true);
    const [old, made] = [plain(before.section), plain(after.section)];
    expect(made.order).toBe(order);
    expect(made.table.equals(old.table)).toBe(true);
    expect(made.parts.length).toBe(old.parts.length);
    expect(made.parts.slice(0, -1).flat()).toEqual([]);
    const last = made.parts.at(-1) ?? [];
    expect(wastes(last)).toEqual([]);
    expect(after.section.length).toBeLessThanOrEqual(before.section.length);
    const entries = last.reduce((sum, block) => sum + block.entries.length / 16, 0);
    expect(result.hpt?.after).toEqual({
      order,
      radix: false,
      parts: old.parts.length,
      blocks: last.length,
      entries,
      bytes: after.section.length,
    });
  });

  test('bolted only: the filtered table, part for part', async () => {
    const before = await dissected(stream);
    const { bytes: out, result } = await rewritten(bytes(), { ...options, boltedOnly: true });
    const after = await dissect(out, { offset: options.offset ?? 0 });
    expect(sameBytes(after.outside, before.outside)).toBe(true);
    const [old, made] = [plain(before.section), plain(after.section)];
    expect(made.table.equals(boltedTable(old.table))).toBe(true);
    expect(made.parts.length).toBe(old.parts.length);
    const carried = made.parts.flat().flatMap(({ entries }) => flags(entries));
    expect(carried.every((byte) => byte & 0x10)).toBe(true);
    // As the kernel reads: what is not bolted is told as empty, so each part speaks of what it did.
    for (const [i, part] of made.parts.entries()) {
      expect(covered(part)).toEqual(covered(old.parts[i] ?? []));
    }
    expect(result.hpt?.after.entries).toBe(carried.length);
  });

  test('both, with another machine type, out of its container', async () => {
    const before = await dissected(stream);
    const edits = { boltedOnly: true, compact: true, container: 'raw', compress: 'none' } as const;
    const machine = before.info.configuration === undefined ? undefined : 'pseries-11.99-special';
    const { bytes: out, result } = await rewritten(bytes(), { ...options, ...edits, machine });
    const after = await dissect(out);
    const [old, made] = [plain(before.section), plain(after.section)];
    expect(made.table.equals(boltedTable(old.table))).toBe(true);
    expect(wastes(made.parts.flat())).toEqual([]);
    expect(after.info.configuration?.machine).toBe(machine);
    expect(result.wrapping.after).toEqual({ container: 'raw', format: 'none' });
    const named = before.info.sections.map(({ name, id, length }) => [name, id, length]);
    for (const section of after.info.sections) {
      if (section.name === 'spapr/htab') continue;
      expect(named).toContainEqual([section.name, section.id, section.length]);
    }
  });
});

/** The last byte of each DW0. */
function flags(entries: Buffer): number[] {
  const bytes: number[] = [];
  for (let at = 7; at < entries.length; at += 16) bytes.push(entries[at] ?? 0);
  return bytes;
}

/** Slots that blocks speak of, as ranges that do not touch. */
function covered(blocks: readonly { index: number; entries: Buffer; nInvalid: number }[]) {
  const ranges: [number, number][] = [];
  for (const { index, entries, nInvalid } of blocks) {
    const end = index + entries.length / 16 + nInvalid;
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === index) last[1] = end;
    else if (end > index) ranges.push([index, end]);
  }
  return ranges;
}

test('a second time, compact and bolted only change nothing', async () => {
  for (const edit of [{ compact: true }, { boltedOnly: true }]) {
    const once = await rewritten(smallGuest(), edit);
    expect(once.result.identical).toBe(false);
    const twice = await rewritten(once.bytes, edit);
    expect(twice.bytes.equals(once.bytes)).toBe(true);
    expect(twice.result.identical).toBe(true);
  }
});

test('a guest without HPT is left as it is, with a warning', async () => {
  const radix = STREAMS.filter(({ order }) => order === null);
  expect(radix.length).toBeGreaterThan(0);
  for (const { bytes } of radix) {
    for (const edit of [{ compact: true }, { boltedOnly: true }]) {
      const { bytes: out, result } = await rewritten(bytes(), edit);
      expect(out.equals(bytes())).toBe(true);
      expect(result.warnings.map(({ code }) => code)).toEqual(['W_HPT']);
      expect(result.hpt?.after.radix).toBe(true);
    }
  }
});
