import { readFileSync } from 'node:fs';
import {
  BufferSource,
  convert,
  type HptFormat,
  IterableSource,
  type RewriteOptions,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { fixture, load } from '../helpers/fixtures.js';
import { plainElements, plainTable } from '../helpers/reference.js';
import { scratchFile } from '../helpers/sources.js';
import { chunk, hpte, htabPart, smallGuest, u32 } from '../helpers/stream.js';
import { dissect, guestWith, plain, refusal, rewritten, sameBytes } from './support.js';

const PLAIN = load(fixture('containers/plain.mig.gz'));
const LIVE = load(fixture('qemu/linux-p8-live.mig.gz'));
const RADIX = load(fixture('qemu/linux-p9-radix.mig.gz'));
const NO_HPT = u32(0xffffffff);

async function hptFile(stream: Buffer, to: HptFormat, endian?: 'big'): Promise<Buffer> {
  const path = scratchFile('hpt');
  await convert(new BufferSource(stream), path, { to, outputByteOrder: endian });
  return readFileSync(path);
}

function withHtab(stream: Buffer, htab: Buffer, options: RewriteOptions = {}) {
  return rewritten(stream, { ...options, htab: new BufferSource(htab, 'new.htab') });
}

const section = (...payloads: Buffer[]): Buffer => Buffer.concat(payloads);
const asSection = { htabOptions: { from: 'section' } } as const;

/** Little-endian chunk headers, as QEMU up to 2.2 wrote them on little-endian KVM hosts. */
function littleChunk(index: number, entries: Buffer[], nInvalid = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(index);
  head.writeUInt16LE(entries.length, 4);
  head.writeUInt16LE(nInvalid, 6);
  return section(head, ...entries);
}

describe('a stream with little-endian chunk headers', () => {
  const old = { configured: false, footers: false, vmdesc: false };
  // As a big-endian count, 1 is 256: one entry and nothing else would be the beginning of these.
  const first = (make: typeof chunk) => htabPart(make(0, [hpte(1, 0x10)]));
  const last = (make: typeof chunk) => htabPart(make(8, [hpte(2), hpte(3, 0x10)], 1));
  const guest = (make: typeof chunk) =>
    guestWith({ ...old, htab: [u32(18), first(make), last(make)] });

  test.each([{ boltedOnly: true }, { compact: true }, { htab: 'its own' }])('%j', async (edit) => {
    const options = (bytes: Buffer): RewriteOptions =>
      'htab' in edit ? { htab: new BufferSource(bytes) } : edit;
    const wrong = guest(littleChunk);
    const right = guest(chunk);
    const { bytes, result } = await rewritten(wrong, options(wrong));
    const wanted = await rewritten(right, options(right));
    expect(bytes.equals(wanted.bytes)).toBe(true);
    expect(result.hpt?.changed).toBe(true);
    expect(result.hpt?.after).toEqual(wanted.result.hpt?.after);
    expect(result.warnings.map(({ code }) => code)).toContain('W_HTAB');
  });
});

describe('a table of another guest', () => {
  test.each([
    ['kernel', undefined],
    ['kernel', 'big'],
    ['section', undefined],
    ['image', undefined],
    ['archive', undefined],
  ] as const)('as %s %s', async (format, endian) => {
    const [from, to] = [await dissect(LIVE), await dissect(PLAIN)];
    const wanted = plain(from.section);
    const { bytes, result } = await withHtab(PLAIN, await hptFile(LIVE, format, endian));
    const made = await dissect(bytes);
    expect(sameBytes(made.outside, to.outside)).toBe(true);
    const { order, table, parts } = plain(made.section);
    expect(order).toBe(wanted.order);
    expect(table.equals(wanted.table)).toBe(true);
    expect(parts.length).toBe(plain(to.section).parts.length);
    expect(parts.slice(0, -1).flat()).toEqual([]);
    expect(result.hpt?.after.entries).toBe(entriesOf(made.section));
    // Blocks go in as they are.
    if (format === 'kernel' || format === 'section') {
      expect(parts.at(-1)).toEqual(wanted.parts.flat());
    }
  });

  test('a snapshot of it, in a container', async () => {
    const { bytes } = await rewritten(PLAIN, {
      htab: new BufferSource(load(fixture('containers/qcow2-deleted.qcow2.gz'))),
      htabOptions: { snapshot: 'c' },
    });
    const source = await dissect(load(fixture('containers/qcow2-deleted.qcow2.gz')), {
      snapshot: 'c',
    });
    const made = plain((await dissect(bytes)).section);
    expect(made.table.equals(plain(source.section).table)).toBe(true);
  });

  test('combined with the other edits', async () => {
    const { bytes, result } = await withHtab(PLAIN, await hptFile(LIVE, 'kernel'), {
      compact: true,
      boltedOnly: true,
      machine: 'pseries-8.0-x',
    });
    const direct = await rewritten(LIVE, { compact: true, boltedOnly: true });
    const [made, expected] = [await dissect(bytes), await dissect(direct.bytes)];
    expect(made.payloads.at(-1)).toEqual(expected.payloads.at(-1));
    expect(made.info.configuration?.machine).toBe('pseries-8.0-x');
    expect(result.machine).toEqual({ before: 'pseries-7.2', after: 'pseries-8.0-x' });
  });
});

describe('parts', () => {
  const [one, two] = [htabPart(chunk(7, [hpte(9)])), htabPart(chunk(8, [], 3))];

  test('as many as the stream has go in one by one', async () => {
    const { bytes } = await withHtab(smallGuest(), section(u32(18), one, two), asSection);
    expect((await dissect(bytes)).payloads).toEqual([u32(18), one, two]);
  });

  test('as many as the stream has, filtered', async () => {
    const bolted = htabPart(chunk(3, [hpte(1, 0x10), hpte(2)]));
    const htab = section(u32(18), bolted, two);
    const { bytes } = await withHtab(smallGuest(), htab, { ...asSection, boltedOnly: true });
    const left = htabPart(chunk(3, [hpte(1, 0x10)], 1));
    expect((await dissect(bytes)).payloads).toEqual([u32(18), left, two]);
  });

  test.each([
    ['fewer', section(u32(18), one)],
    ['more', section(u32(18), one, two, htabPart())],
  ])('%s: all into the last', async (_, htab) => {
    const { bytes } = await withHtab(smallGuest(), htab, asSection);
    const blocks = plain(htab).parts.flat();
    const [start, first, last] = (await dissect(bytes)).payloads;
    expect(start).toEqual(u32(18));
    expect(first).toEqual(htabPart());
    expect(plain(section(u32(18), last ?? u32(0))).parts).toEqual([blocks]);
  });

  test('kernel blocks whose parts are marked go in one by one', async () => {
    const pieces: Buffer[] = [];
    const write = async (bytes: Uint8Array) => void pieces.push(Buffer.from(bytes));
    const options = { to: 'kernel', markParts: true } as const;
    await convert(new BufferSource(smallGuest()), { write }, options);
    const compacted = await rewritten(smallGuest(), { compact: true });
    const { bytes } = await withHtab(compacted.bytes, Buffer.concat(pieces));
    expect(bytes.equals(smallGuest())).toBe(true);
  });

  test('a second START begins the table anew: it is built, and said once', async () => {
    const htab = section(u32(18), one, u32(18), htabPart(chunk(20, [hpte(5)])));
    const { bytes } = await withHtab(smallGuest(), htab, asSection);
    const expected = htabPart(chunk(20, [hpte(5)]));
    expect((await dissect(bytes)).payloads).toEqual([u32(18), htabPart(), expected]);
  });

  test('a START of another order behind the first is the order that counts', async () => {
    const htab = section(u32(19), one, u32(18), one);
    const { bytes } = await withHtab(smallGuest(), htab, asSection);
    expect((await dissect(bytes)).payloads).toEqual([u32(18), htabPart(), one]);
    const other = await refusal(
      withHtab(smallGuest(), section(u32(18), one, u32(19), one), asSection),
    );
    expect(other.code).toBe('E_ORDER');
  });

  test('a guest that gives its HPT up on the way has none', async () => {
    const htab = section(u32(18), one, NO_HPT);
    const error = await refusal(withHtab(smallGuest(), htab, asSection));
    expect(error.code).toBe('E_NO_HPT');
    const { bytes } = await withHtab(smallGuest(), htab, { ...asSection, allowRadix: true });
    expect((await dissect(bytes)).payloads).toEqual([NO_HPT, NO_HPT, NO_HPT]);
  });
});

describe('order', () => {
  const delta = section(chunk(5, [hpte(1)]), chunk(16383, [], 1));

  test('blocks that do not tell it take that of the stream', async () => {
    const { bytes } = await withHtab(smallGuest(), delta, { htabOptions: { from: 'kernel' } });
    const { order, table } = plain((await dissect(bytes)).section);
    expect(order).toBe(18);
    expect(table.equals(plainTable(18, [{ index: 5, entries: hpte(1), nInvalid: 0 }]))).toBe(true);
  });

  test('blocks beyond the table of the stream are refused', async () => {
    const htab = section(chunk(16383, [], 2));
    const error = await refusal(
      withHtab(smallGuest(), htab, { htabOptions: { from: 'kernel', byteOrder: 'big' } }),
    );
    expect(error).toMatchObject({ code: 'E_ORDER', expected: 'order 18' });
    expect(error.actual).toContain('16384');
  });

  test('another order is refused, unless it is allowed', async () => {
    const htab = plainElements(load(fixture('kvm/h8-guest.htabsec.gz')));
    const error = await refusal(withHtab(PLAIN, htab));
    expect(error).toMatchObject({ code: 'E_ORDER', expected: 'order 21', actual: 'order 22' });
    expect(error.message).toContain('new.htab');
    const { bytes, result } = await withHtab(PLAIN, htab, { allowOtherOrder: true });
    expect(plain((await dissect(bytes)).section).table.equals(plain(htab).table)).toBe(true);
    expect(result.hpt).toMatchObject({ before: { order: 21 }, after: { order: 22 } });
  });

  test('a complete first pass tells its own', async () => {
    const htab = load(fixture('kvm/h8-guest.htab.gz'));
    expect(await refusal(withHtab(PLAIN, htab))).toMatchObject({ actual: 'order 22' });
    const { bytes } = await withHtab(PLAIN, htab, { allowOtherOrder: true });
    expect(plain((await dissect(bytes)).section).order).toBe(22);
  });

  test('given by hand, of blocks that do not tell it', async () => {
    const htab = load(fixture('kvm/p8-many-delta.htab.gz'));
    const options = { htabOptions: { from: 'kernel', byteOrder: 'little', order: 24 } } as const;
    expect(await refusal(withHtab(PLAIN, htab, options))).toMatchObject({ code: 'E_ORDER' });
    const { bytes } = await withHtab(PLAIN, htab, { ...options, allowOtherOrder: true });
    expect(plain((await dissect(bytes)).section).order).toBe(24);
  });

  test('neither the blocks nor a radix stream tell it', async () => {
    const options = { htabOptions: { from: 'kernel' }, allowRadix: true } as const;
    expect(await refusal(withHtab(RADIX, delta, options))).toMatchObject({
      code: 'E_ORDER_REQUIRED',
    });
  });
});

describe('radix', () => {
  const table = section(u32(18), htabPart(), htabPart(chunk(7, [hpte(9)])));

  test('a table for a guest without one is refused, unless it is allowed', async () => {
    const error = await refusal(withHtab(RADIX, table, asSection));
    expect(error).toMatchObject({ code: 'E_NO_HPT' });
    expect(error.message).toContain('--allow-radix');
    const { bytes, result } = await withHtab(RADIX, table, { ...asSection, allowRadix: true });
    const [made, old] = [await dissect(bytes), await dissect(RADIX)];
    expect(sameBytes(made.outside, old.outside)).toBe(true);
    expect(plain(made.section).table.equals(plain(table).table)).toBe(true);
    expect(result.hpt).toMatchObject({
      before: { radix: true },
      after: { radix: false, order: 18 },
    });
    const back = await withHtab(bytes, old.section, { ...asSection, allowRadix: true });
    expect(back.bytes.equals(RADIX)).toBe(true);
  });

  test('no table for a guest with one is refused, unless it is allowed', async () => {
    const error = await refusal(withHtab(smallGuest(), NO_HPT, asSection));
    expect(error.code).toBe('E_NO_HPT');
    const { bytes, result } = await withHtab(smallGuest(), NO_HPT, {
      ...asSection,
      allowRadix: true,
    });
    expect((await dissect(bytes)).payloads).toEqual([NO_HPT, NO_HPT, NO_HPT]);
    expect(result.hpt?.after).toMatchObject({ radix: true, order: undefined, bytes: 12 });
  });

  test('none for none is the same', async () => {
    const { bytes, result } = await withHtab(RADIX, section(NO_HPT, NO_HPT), asSection);
    expect(bytes.equals(RADIX)).toBe(true);
    expect(result.identical).toBe(true);
  });
});

describe('streams', () => {
  test('with a START alone take no blocks', async () => {
    const guest = guestWith({ htab: [u32(18)], ended: false });
    const empty = await withHtab(guest, section(u32(18), htabPart()), asSection);
    expect(empty.bytes.equals(guest)).toBe(true);
    expect((await rewritten(guest, { compact: true })).bytes.equals(guest)).toBe(true);
    const htab = section(u32(18), htabPart(chunk(1, [hpte(1)])));
    expect(await refusal(withHtab(guest, htab, asSection))).toMatchObject({
      code: 'E_UNSUPPORTED',
    });
  });

  test('without an END take them into the last PART', async () => {
    const guest = guestWith({
      htab: [u32(18), htabPart(chunk(1, [hpte(1)])), htabPart()],
      ended: false,
    });
    const { bytes } = await rewritten(guest, { compact: true });
    const moved = guestWith({
      htab: [u32(18), htabPart(), htabPart(chunk(1, [hpte(1)]))],
      ended: false,
    });
    expect(bytes.equals(moved)).toBe(true);
  });

  test('without the section are told so', async () => {
    const guest = smallGuest();
    const other = Buffer.from(guest);
    other.write('spapr/htax', guest.indexOf('spapr/htab'), 'latin1');
    expect(await refusal(rewritten(other, { compact: true }))).not.toMatchObject({
      code: 'E_USAGE',
    });
  });

  test('are not files with an HPT', async () => {
    const error = await refusal(rewritten(section(u32(18), htabPart(), htabPart())));
    expect(error).toMatchObject({ code: 'E_USAGE' });
    expect(error.message).toContain('convert');
  });
});

test('sources are closed, whatever happens', async () => {
  const closed: string[] = [];
  class Watched extends BufferSource {
    override close(): Promise<void> {
      closed.push(this.name);
      return super.close();
    }
  }
  const htab = () => new Watched(section(u32(19), htabPart()), 'htab');
  const input = () => new Watched(smallGuest(), 'input');
  await rewritten(input(), { htab: htab(), ...asSection, allowOtherOrder: true });
  expect(closed.sort()).toEqual(['htab', 'input']);
  await refusal(rewritten(input(), { htab: htab(), ...asSection }));
  expect(closed.sort()).toEqual(['htab', 'htab', 'input', 'input']);
});

describe('an HPT that becomes another one while it is read', () => {
  /** Has other bytes once it was read to its end and something else is read. */
  class Changing extends BufferSource {
    #seen = false;

    constructor(
      readonly before: Buffer,
      readonly after: Buffer,
    ) {
      super(before, 'changing.section');
      Object.defineProperty(this, 'size', { get: () => this.bytes.length });
    }

    override read(target: Uint8Array, position: number): Promise<number> {
      this.#seen ||= position + target.length >= this.before.length;
      return super.read(target, position);
    }

    othersRead(): void {
      if (this.#seen) Object.defineProperty(this, 'bytes', { value: this.after });
    }
  }

  const before = section(u32(18), htabPart(chunk(5, [hpte(7)])), htabPart(chunk(100, [hpte(8)])));
  const after = {
    'has fewer parts': before.subarray(0, -36),
    'has more': section(before, htabPart(chunk(200, [hpte(9)]))),
    'has another order': section(u32(19), before.subarray(4)),
    'is of a radix guest': section(NO_HPT, NO_HPT, NO_HPT),
    'is begun anew': section(before, u32(18), htabPart(), htabPart()),
    'is cut off': before.subarray(0, -20),
    'is empty': Buffer.alloc(0),
    'reaches further': section(before.subarray(0, -36), htabPart(chunk(300, [hpte(8)]))),
    'is something else': Buffer.alloc(100, 0xee),
  };
  const pieces = [
    ['part by part', [htabPart(), htabPart()]],
    ['all into the last', [htabPart()]],
  ] as const;
  const cases = pieces.flatMap(([how, parts]) =>
    Object.entries(after).map(([what, bytes]) => [what, how, parts, bytes] as const),
  );

  test.each(cases)('%s, %s', async (_, _how, parts, bytes) => {
    const htab = new Changing(before, bytes);
    class Input extends BufferSource {
      override read(target: Uint8Array, position: number): Promise<number> {
        htab.othersRead();
        return super.read(target, position);
      }
    }
    const input = new Input(guestWith({ htab: [u32(18), ...parts] }));
    const error = await refusal(rewritten(input, { htab, ...asSection }));
    expect(error).toMatchObject({ code: 'E_IO' });
    expect(error.message).toContain('changing.section changed while it was read');
  });
});

test('a pipe that fails is an error of the pipe', async () => {
  const broken = async function* (): AsyncGenerator<Uint8Array> {
    yield u32(18);
    throw new Error('gone');
  };
  const htab = new IterableSource(broken(), 'the pipe');
  const error = await refusal(rewritten(smallGuest(), { htab, ...asSection }));
  expect(error).toMatchObject({ code: 'E_IO' });
  expect(error.message).toContain('the pipe');
});

function entriesOf(bytes: Buffer): number {
  return plain(bytes)
    .parts.flat()
    .reduce((sum, { entries }) => sum + entries.length / 16, 0);
}
