import { describe, expect, test } from 'vitest';
import { array, list, pointers, state, struct, u32, u64, value } from '../devices/writer.js';
import { brief, checkOne, described, field } from './support.js';

const n32 = (name: string, n = 7) => value(name, 'uint32', u32(n), n);
const n64 = (name: string) => value(name, 'uint64', u64(7n), 7n);
const n8 = (name: string, n = 7) => value(name, 'uint8', Buffer.of(n), n);

const TIMER = state('dev', 1, [n32('a'), n64('b')]);
const SAME = described('dev', [field('a', 4), field('b', 8)]);

describe('names', () => {
  test('a state is found by its name, with any path before it', async () => {
    expect(brief(await checkOne(TIMER, SAME))).toEqual(['ok']);
    const device = { path: 'pci@800000020000000:00.0/', state: TIMER };
    expect(brief(await checkOne(device, SAME))).toEqual(['ok']);
  });

  test('slashes may be part of the name', async () => {
    const rtc = state('spapr/rtc', 1, [n64('ns_offset')]);
    const right = described('spapr/rtc', [field('ns_offset', 8)]);
    const other = described('rtc', [field('x', 2)], { version_id: 9, minimum_version_id: 9 });
    expect(brief(await checkOne(rtc, [other, right]))).toEqual(['ok']);
    expect(brief(await checkOne(rtc, [other]))).toEqual(['unknown', 'no-class: spapr/rtc']);
  });

  test('the end of a word is not the end of a name', async () => {
    const other = described('ev', [field('a', 4), field('b', 8)]);
    expect(brief(await checkOne(TIMER, other))).toEqual(['unknown', 'no-class: dev']);
  });

  test('of classes with one name, the one that would do counts', async () => {
    const newer = described('dev', [field('a', 4)], { version_id: 3, minimum_version_id: 3 });
    const section = await checkOne(TIMER, [newer, SAME]);
    expect(brief(section)).toEqual(['ok']);
    expect(section.classes).toEqual(['class-0', 'class-1']);
    expect(brief(await checkOne(TIMER, [newer]))).toEqual(['refused', 'version-too-old: dev']);
  });

  test('state that no dump can have is never fine', async () => {
    for (const name of ['timer', 'cpu', 'spapr', 'spapr_iommu', 'icp/server', 'globalstate']) {
      const section = await checkOne(state(name, 1, [n32('a')]), SAME);
      expect(brief(section)).toEqual(['unknown', `not-described: ${name}`]);
      expect(section.compared).toBe('nothing');
    }
  });
});

describe('versions', () => {
  const versions = { version_id: 3, minimum_version_id: 2 };
  const target = described('dev', [field('a', 4)], versions);
  test.each([
    [1, ['refused', 'version-too-old: dev']],
    [2, ['ok']],
    [3, ['ok']],
    [4, ['refused', 'version-too-new: dev']],
  ])('version %i of 2 to 3', async (version, found) => {
    expect(brief(await checkOne(state('dev', version, [n32('a')]), target))).toEqual(found);
  });

  test('fields of a newer version are not read at an older one', async () => {
    const grown = described('dev', [field('a', 4), field('b', 4, { version_id: 3 })], versions);
    expect(brief(await checkOne(state('dev', 2, [n32('a')]), grown))).toEqual(['ok']);
    const both = [n32('a'), n32('b')];
    expect(brief(await checkOne(state('dev', 3, both), grown))).toEqual(['ok']);
    expect(brief(await checkOne(state('dev', 2, both), grown))).toEqual([
      'refused',
      'extra-fields: dev / b',
    ]);
    expect(brief(await checkOne(state('dev', 3, [n32('a')]), grown))).toEqual([
      'refused',
      'missing-fields: dev / b',
    ]);
  });

  test("a struct is read at the target's own version", async () => {
    const inner = described('in', [field('x', 4), field('y', 4, { version_id: 2 })], {
      version_id: 2,
    });
    const target = described('dev', [field('s', 16, { Description: inner })]);
    const old = state('dev', 1, [struct('s', state('in', 1, [n32('x')]))]);
    expect(brief(await checkOne(old, target))).toEqual(['refused', 'missing-fields: dev / s / y']);
    const now = state('dev', 1, [struct('s', state('in', 2, [n32('x'), n32('y')]))]);
    expect(brief(await checkOne(now, target))).toEqual(['ok']);
  });
});

describe('fields', () => {
  test('one that the target does not have', async () => {
    const more = state('dev', 1, [n32('a'), n32('new'), n64('b')]);
    expect(brief(await checkOne(more, SAME))).toEqual(['refused', 'extra-fields: dev / new']);
  });

  test('one that the stream does not have', async () => {
    const less = state('dev', 1, [n64('b')]);
    expect(brief(await checkOne(less, SAME))).toEqual(['refused', 'missing-fields: dev / a']);
    const optional = described('dev', [field('a', 4, { field_exists: true }), field('b', 8)]);
    expect(brief(await checkOne(less, optional))).toEqual(['ok']);
  });

  test('an array without elements leaves no trace', async () => {
    const item = described('item', [field('x', 4)]);
    const target = described('dev', [
      field('devs_num', 4),
      field('devs', 4, { Description: item }),
    ]);
    expect(brief(await checkOne(state('dev', 1, [n32('devs_num', 0)]), target))).toEqual(['ok']);
    expect(brief(await checkOne(state('dev', 1, [n32('devs_num', 1)]), target))).toEqual([
      'refused',
      'missing-fields: dev / devs',
    ]);
    const other = described('dev', [field('n', 4), field('devs', 4, { Description: item })]);
    expect(brief(await checkOne(state('dev', 1, [n32('n', 0)]), other))).toEqual([
      'unknown',
      'missing-fields: dev / devs',
    ]);
  });

  test('one of another size', async () => {
    const wider = described('dev', [field('a', 8), field('b', 8)]);
    expect(brief(await checkOne(TIMER, wider))).toEqual(['refused', 'field-size: dev / a']);
    const narrower = described('dev', [field('a', 4), field('b', 4)]);
    expect(brief(await checkOne(TIMER, narrower))).toEqual(['refused', 'field-size: dev / b']);
  });

  test('sizes that make up for each other are misread, not refused', async () => {
    const swapped = described('dev', [field('a', 8), field('b', 4)]);
    expect(brief(await checkOne(TIMER, swapped))).toEqual([
      'unknown',
      'field-size: dev / a',
      'field-size: dev / b',
    ]);
  });

  test('another order', async () => {
    const other = described('dev', [field('b', 8), field('a', 4)]);
    const section = await checkOne(TIMER, other);
    expect(section.verdict).toBe('unknown');
    const codes = section.reasons.map(({ code }) => code);
    expect(codes.sort()).toEqual(['extra-fields', 'missing-fields']);
  });

  test('another name for the same bytes is told, and is no reason to refuse', async () => {
    const renamed = described('dev', [field('first', 4), field('b', 8)]);
    expect(brief(await checkOne(TIMER, renamed))).toEqual(['unknown', 'other-fields: dev / a']);
    const wider = described('dev', [field('first', 8), field('b', 8)]);
    expect(brief(await checkOne(TIMER, wider))).toEqual(['refused', 'other-fields: dev / a']);
    // Without lengths of arrays, it may be one of any number of elements.
    const shorter = described('dev', [field('first', 1), field('b', 8)]);
    expect((await checkOne(TIMER, shorter)).verdict).toBe('refused');
    expect((await checkOne(TIMER, shorter, { counted: false })).verdict).toBe('unknown');
  });

  test('space that was given up, and space that is used again', async () => {
    const given = described('dev', [field('unused', 4), field('b', 8)]);
    expect(brief(await checkOne(TIMER, given))).toEqual(['ok']);
    const more = described('dev', [field('unused', 5), field('b', 8)]);
    expect((await checkOne(TIMER, more)).verdict).toBe('refused');
    const had = state('dev', 1, [value('unused', 'unused_buffer', Buffer.alloc(4)), n64('b')]);
    expect(brief(await checkOne(had, SAME))).toEqual(['ok']);
  });

  test('fields that share a name are told apart by their place', async () => {
    const target = described('dev', [
      field('x', 4, { field_exists: true }),
      field('x', 2, { field_exists: true }),
      field('end', 1),
    ]);
    const first = state('dev', 1, [n32('x[0]'), n8('end')]);
    const second = state('dev', 1, [value('x[1]', 'uint16', Buffer.alloc(2)), n8('end')]);
    const wrong = state('dev', 1, [n32('x[1]'), n8('end')]);
    expect(brief(await checkOne(first, target))).toEqual(['ok']);
    expect(brief(await checkOne(second, target))).toEqual(['ok']);
    expect(brief(await checkOne(wrong, target))).toEqual(['refused', 'field-size: dev / x']);
    const now = described('dev', [field('x', 4), field('end', 1)]);
    expect(brief(await checkOne(first, now))).toEqual(['ok']);
  });

  test('what has another size in memory is not compared by it', async () => {
    const target = described('dev', [field('t', 48), field('buf', 0), field('bits', 0)]);
    const device = state('dev', 1, [
      value('t', 'timer', u64(5n)),
      value('buf', 'buffer', Buffer.alloc(100)),
      value('bits', 'bitmap', Buffer.alloc(16)),
    ]);
    expect(brief(await checkOne(device, target))).toEqual(['ok']);
  });
});

describe('arrays', () => {
  const words = (n: number) => {
    const items = Array.from({ length: n }, (_, i) => u32(i));
    const numbers = items.map((_, i) => i);
    return state('dev', 1, [array('w', 'uint32', items, numbers)]);
  };

  test('of another length', async () => {
    const four = described('dev', [field('w', 4, { num: 4 })]);
    expect(brief(await checkOne(words(4), four))).toEqual(['ok']);
    expect(brief(await checkOne(words(3), four))).toEqual(['refused', 'field-size: dev / w']);
    expect(brief(await checkOne(words(5), four))).toEqual(['refused', 'field-size: dev / w']);
    // One of variable length has no number.
    expect(brief(await checkOne(words(5), described('dev', [field('w', 4)])))).toEqual(['ok']);
  });

  test('of another width', async () => {
    const wide = described('dev', [field('w', 2)]);
    expect((await checkOne(words(4), wide)).verdict).toBe('ok');
    const five = described('dev', [field('w', 5)]);
    expect(brief(await checkOne(words(4), five))).toEqual(['refused', 'field-size: dev / w']);
  });

  test('of pointers have the size of a pointer', async () => {
    const target = described('dev', [field('w', 8, { num: 4 })]);
    expect(brief(await checkOne(words(4), target))).toEqual(['ok']);
    expect(brief(await checkOne(words(3), target))).toEqual(['refused', 'field-size: dev / w']);
  });

  test('of structs: each element counts, and is told once', async () => {
    const item = described('item', [field('x', 4)]);
    const target = described('dev', [field('s', 4, { num: 3, Description: item })]);
    const one = state('item', 1, [n32('x')]);
    const two = state('item', 1, [n32('x'), n8('y')]);
    for (const era of ['<=9.1', '>=9.2.4'] as const) {
      const device = state('dev', 1, [pointers('s', [one, two, two], era, false)]);
      const found = ['refused', 'extra-fields: dev / s / y'];
      expect(brief(await checkOne(device, target))).toEqual(found);
      const nulls = state('dev', 1, [pointers('s', [one, null, one], era, true)]);
      expect(brief(await checkOne(nulls, target))).toEqual(['ok']);
      const short = state('dev', 1, [pointers('s', [one, one], era, true)]);
      expect(brief(await checkOne(short, target))).toEqual(['refused', 'field-size: dev / s']);
    }
  });

  test('lists have structs of their own', async () => {
    const item = described('item', [field('x', 4)]);
    const target = described('dev', [field('q', 40, { Description: item, version_id: 1 })]);
    const good = state('dev', 1, [list('q', 'qtailq', [state('item', 1, [n32('x')])])]);
    const bad = state('dev', 1, [list('q', 'qtailq', [state('item', 1, [n8('x')])])]);
    expect(brief(await checkOne(good, target))).toEqual(['ok']);
    expect(brief(await checkOne(state('dev', 1, [list('q', 'qlist', [])]), target))).toEqual([
      'ok',
    ]);
    expect(brief(await checkOne(bad, target))).toEqual(['refused', 'field-size: dev / q / x']);
  });
});

describe('subsections', () => {
  const sub = (version = 1) => state('dev/more', version, [n32('x')]);
  const known = described('dev/more', [field('x', 4)], { version_id: 2, minimum_version_id: 1 });
  const device = (version?: number) => state('dev', 1, [n32('a'), n64('b')], [sub(version)]);

  test('known, unknown, of another version', async () => {
    const target = { ...SAME, Subsections: [known] };
    expect(brief(await checkOne(device(), target))).toEqual(['ok']);
    expect(brief(await checkOne(TIMER, target))).toEqual(['ok']);
    expect(brief(await checkOne(device(), SAME))).toEqual([
      'refused',
      'subsection-unknown: dev / dev/more',
    ]);
    expect(brief(await checkOne(device(3), target))).toEqual([
      'refused',
      'version-too-new: dev / dev/more',
    ]);
    const later = { ...SAME, Subsections: [{ ...known, minimum_version_id: 2 }] };
    expect(brief(await checkOne(device(), later))).toEqual([
      'refused',
      'version-too-old: dev / dev/more',
    ]);
  });

  test('in a struct, and in a subsection', async () => {
    const inner = state('in', 1, [n32('x')], [state('in/deep', 1, [n8('y')])]);
    const outer = state('dev', 1, [struct('s', inner)]);
    const plain = described('in', [field('x', 4)]);
    const target = (description: typeof plain) =>
      described('dev', [field('s', 4, { Description: description })]);
    expect(brief(await checkOne(outer, target(plain)))).toEqual([
      'refused',
      'subsection-unknown: dev / s / in/deep',
    ]);
    const deep = { ...plain, Subsections: [described('in/deep', [field('y', 1)])] };
    expect(brief(await checkOne(outer, target(deep)))).toEqual(['ok']);
    const nested = state(
      'dev',
      1,
      [n32('a'), n64('b')],
      [state('dev/more', 1, [n32('x')], [state('dev/more/still', 1, [n8('y')])])],
    );
    expect(brief(await checkOne(nested, { ...SAME, Subsections: [known] }))).toEqual([
      'refused',
      'subsection-unknown: dev / dev/more / dev/more/still',
    ]);
  });

  test('one that the target has further out may be found there', async () => {
    const inner = state('in', 1, [n32('x')], [state('dev/more', 1, [n32('x')])]);
    const target = described(
      'dev',
      [field('s', 4, { Description: described('in', [field('x', 4)]) })],
      {
        Subsections: [known],
      },
    );
    expect(brief(await checkOne(state('dev', 1, [struct('s', inner)]), target))).toEqual([
      'unknown',
      'subsection-unknown: dev / s / dev/more',
    ]);
  });
});

test('a struct on one side only', async () => {
  const inner = state('in', 1, [n32('x')]);
  const structs = described('dev', [
    field('s', 4, { Description: described('in', [field('x', 4)]) }),
  ]);
  expect(brief(await checkOne(state('dev', 1, [struct('s', inner)]), structs))).toEqual(['ok']);
  const plain = described('dev', [field('s', 4)]);
  expect(brief(await checkOne(state('dev', 1, [struct('s', inner)]), plain))).toEqual([
    'unknown',
    'field-shape: dev / s',
  ]);
  expect(brief(await checkOne(state('dev', 1, [n32('s')]), structs))).toEqual([
    'unknown',
    'field-shape: dev / s',
  ]);
});

test('what its description does not fit is not refused by it', async () => {
  const longer = { ...TIMER, bytes: Buffer.concat([TIMER.bytes, Buffer.alloc(3)]) };
  const section = await checkOne(longer, described('dev', [field('z', 8)]));
  expect(section.verdict).toBe('unknown');
  expect(section.reasons.map(({ code }) => code)).toEqual(['undecoded']);
});

test('fields that may be empty in themselves are not called missing for certain', async () => {
  const custom = described('dev', [field('a', 4), field('b', 8), field('msix', 0)]);
  expect(brief(await checkOne(TIMER, custom))).toEqual(['unknown', 'missing-fields: dev / msix']);
});

test('reasons say what a person needs', async () => {
  const more = state('dev', 1, [n32('a'), n32('new'), n64('b')]);
  const [reason] = (await checkOne(more, SAME)).reasons;
  expect(reason).toEqual({
    code: 'extra-fields',
    refuses: true,
    path: 'dev / new',
    message: "the target has no field 'new' (4 bytes)",
  });
});

test('only so many reasons are listed', async () => {
  const fields = Array.from({ length: 100 }, (_, i) => field(`f${i}`, 8));
  const values = Array.from({ length: 100 }, (_, i) => n32(`f${i}`));
  const { reasons, verdict } = await checkOne(state('dev', 1, values), described('dev', fields));
  expect(verdict).toBe('refused');
  expect(reasons.length).toBe(21);
  expect(reasons.at(-1)?.code).toBe('more');
});
