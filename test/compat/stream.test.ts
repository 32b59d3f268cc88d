import { BufferSource, checkSnapshot, IterableSource, parseVmstateDump } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { sameMachine } from '../../src/compat/configuration.js';
import { checkIterable } from '../../src/compat/section.js';
import { state, u32, value } from '../devices/writer.js';
import { smallGuest } from '../helpers/stream.js';
import { brief, check, described, dump, field, stream } from './support.js';

const DEVICE = { state: state('dev', 1, [value('a', 'uint32', u32(1), 1)]) };
const KNOWN = described('dev', [field('a', 4)]);

async function configurationOf(machine: string | null, target: string): Promise<string[]> {
  const { configuration } = await check(
    stream([DEVICE], { machine }),
    dump([KNOWN], { machine: target }),
  );
  return brief(configuration);
}

describe('configuration', () => {
  test.each([
    ['pseries-7.2', 'pseries-7.2', ['ok']],
    ['pseries-7.1', 'pseries-7.2', ['refused', 'machine: configuration / name']],
    // QEMU compares as many characters as came.
    ['pseries-7', 'pseries-7.2', ['ok']],
    ['pseries-1', 'pseries-10.0', ['ok']],
    ['pseries-7.22', 'pseries-7.2', ['refused', 'machine: configuration / name']],
    [null, 'pseries-7.2', ['refused', 'configuration: configuration']],
    [null, 'pseries-2.3', ['ok']],
    ['pseries-2.3', 'pseries-2.3', ['refused', 'configuration: configuration']],
    ['pseries-2.4', 'pseries-2.4', ['ok']],
  ])('machine %s on %s', async (machine, target, found) => {
    expect(await configurationOf(machine, target)).toEqual(found);
  });

  test('nothing counts after a NUL', () => {
    expect(sameMachine('pseries-7.2\0x', 'pseries-7.2')).toBe(true);
    expect(sameMachine('pseries-7\0.2', 'pseries-7.2')).toBe(false);
    expect(sameMachine('', 'pseries-7.2')).toBe(true);
  });

  test('capabilities must be set, which no dump shows', async () => {
    const bytes = stream([DEVICE], { capabilities: ['x-ignore-shared', 'mapped-ram'] });
    const { configuration, verdict } = await check(bytes, dump([KNOWN]));
    expect(brief(configuration)).toEqual(['unknown', 'capabilities: configuration / capabilities']);
    expect(configuration.reasons[0]?.message).toContain('x-ignore-shared, mapped-ram');
    expect(verdict).toBe('unknown');
  });
});

describe('sections', () => {
  test.each([
    ['ram', 4, ['ok']],
    ['ram', 3, ['refused', 'version-too-old: ram']],
    ['ram', 5, ['refused', 'version-too-new: ram']],
    ['spapr/htab', 1, ['ok']],
    ['spapr/htab', 2, ['refused', 'version-too-new: spapr/htab']],
    ['dirty-bitmap', 1, ['unknown', 'not-described: dirty-bitmap']],
    ['block', 1, ['unknown', 'not-described: block']],
  ])('an iterable one: %s version %i', (name, version, found) => {
    expect(brief(checkIterable({ id: 1, name, instance: 0, version }))).toEqual(found);
  });

  test('an iterable one of unknown length is the last that is told of', async () => {
    const bytes = stream([DEVICE], {
      iterables: [
        { name: 'spapr/htab', version: 1, payload: u32(18) },
        { name: 'strange', version: 1, payload: Buffer.alloc(3) },
      ],
      footers: false,
    });
    const { sections } = await checkSnapshot(new BufferSource(bytes), dump([KNOWN]));
    expect(sections.map(brief)).toEqual([['ok'], ['unknown', 'unread: strange']]);
  });

  test('without a description only names and versions are compared', async () => {
    const bytes = stream([DEVICE], { description: false });
    const good = (await check(bytes, dump([KNOWN]))).sections[0];
    expect(good?.compared).toBe('version');
    expect(good && brief(good)).toEqual(['unknown', 'no-description: dev']);
    const newer = { ...KNOWN, version_id: 3, minimum_version_id: 2 };
    const old = (await check(bytes, dump([newer]))).sections[0];
    expect(old && brief(old)).toEqual(['refused', 'version-too-old: dev']);
  });

  test('the version in the header counts', async () => {
    const report = await check(stream([{ ...DEVICE, version: 2 }]), dump([KNOWN]));
    expect(report.sections.map(brief)).toEqual([['refused', 'version-too-new: dev']]);
    expect(report.counts).toEqual({ ok: 0, refused: 1, unknown: 0 });
    expect(report.verdict).toBe('refused');
  });

  test('order and offsets are those of the stream', async () => {
    const bytes = smallGuest();
    const { sections, verdict } = await checkSnapshot(new BufferSource(bytes), dump([KNOWN]));
    expect(sections.map(({ name }) => name)).toEqual(['ram', 'spapr/htab', 'timer']);
    for (const { offset, id } of sections) expect(bytes.readUInt32BE(offset + 1)).toBe(id);
    expect(verdict).toBe('unknown');
  });

  test('a pipe is copied, so that its description can be read', async () => {
    const pipe = new IterableSource([stream([DEVICE])]);
    const report = await checkSnapshot(pipe, dump([KNOWN]));
    expect(report.sections.map(({ compared }) => compared)).toEqual(['fields']);
    expect(report.verdict).toBe('ok');
    const refused = checkSnapshot(new IterableSource([stream([DEVICE])]), dump([KNOWN]), {
      limits: { spoolBytes: 0 },
    });
    await expect(refused).rejects.toThrow(expect.objectContaining({ code: 'E_NOT_SEEKABLE' }));
  });
});

test('much of it is refused to be compared, and is not called fine', async () => {
  const many = Array.from({ length: 3000 }, (_, i) => i);
  const fields = many.map((i) => value(`a${i}`, 'uint32', u32(1), 1));
  const device = { state: state('dev', 1, fields) };
  const target = described(
    'dev',
    many.map((i) => field(`b${i}`, 4)),
  );
  const report = await check(stream([device]), dump([target]));
  expect(report.sections.map(brief)).toEqual([['unknown', 'undecoded: dev']]);
});

test('a dump of JSON.stringify is a dump', () => {
  const parsed = parseVmstateDump(Buffer.from(JSON.stringify({ vmschkmachine: { Name: 'x' } })));
  expect(parsed).toEqual({ machine: 'x', counted: false, classes: [] });
});
