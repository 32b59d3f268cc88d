import { BufferSource, describeStream, parseVmdesc } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { DEFAULT_LIMITS } from '../../src/limits.js';
import { machinePatches } from '../../src/rewrite/machine.js';
import { fixture, load } from '../helpers/fixtures.js';
import { smallGuest, u32 } from '../helpers/stream.js';
import {
  type Anatomy,
  dissect,
  dissected,
  guestWith,
  refusal,
  rewritten,
  STREAMS,
} from './support.js';

const FILES = [
  'qemu/slof-2.4.mig.gz',
  'qemu/tcg100-ignshared.mig.gz',
  'qemu/linux-p8-suppress-vmdesc.mig.gz',
  'containers/live-11.1.mig.gz',
  'containers/offset.mig.gz',
  'containers/validate-uuid.mig.gz',
  'containers/mapped-ram-shared-11.1.mig.gz',
  'containers/libvirt-raw.save.gz',
  'containers/libvirt-zstd.save.gz',
  'containers/qcow2-10.0.qcow2.gz',
];
const NAMED = STREAMS.filter(({ file }) => FILES.includes(file));
const NAMES = ['pseries-8', 'pseries-99.99-sles', 'm'];

test('the dialects are there', () => {
  expect(NAMED.map(({ file }) => file).sort()).toEqual([...FILES].sort());
});

describe.each(NAMED)('$title', (stream) => {
  const { bytes, options } = stream;

  test.each([...NAMES, 'same'])('machine %s', async (name) => {
    const before = await dissected(stream);
    const old = before.info.configuration?.machine ?? '';
    const machine = name === 'same' ? old.replace(/.$/, '9') : name;
    const { bytes: out, result } = await rewritten(bytes(), { ...options, machine });
    expect(result).toMatchObject({ identical: false, machine: { before: old, after: machine } });
    const after = await dissect(out, { offset: options.offset ?? 0 });
    expect(textOf(after).equals(replaced(before, machine))).toBe(true);
    expect(after.info.configuration).toMatchObject({
      machine,
      capabilities: before.info.configuration?.capabilities,
      uuid: before.info.configuration?.uuid,
    });
    expect(after.info.warnings.map(({ code }) => code)).toEqual(
      before.info.warnings.map(({ code }) => code),
    );
    expect(sizes(after)).toEqual(sizes(before));
    checkVmdesc(before, after, machine);
  });
});

/** The stream up to its description. */
function textOf({ inner, start, info }: Anatomy): Buffer {
  return inner.subarray(start, info.vmdesc?.offset);
}

/** The same with another name in the configuration, by hand. */
function replaced(stream: Anatomy, machine: string): Buffer {
  const bytes = textOf(stream);
  // u32 magic, u32 version, u8 7, u32 length, name.
  const end = 13 + bytes.readUInt32BE(9);
  const name = Buffer.from(machine);
  return Buffer.concat([bytes.subarray(0, 9), u32(name.length), name, bytes.subarray(end)]);
}

const sizes = ({ info }: Anatomy) =>
  info.sections.map(({ name, id, length }) => [name, id, length]);

interface Described {
  configuration?: { fields: { name: string; size: number }[] };
}

function vmdescText({ inner, info }: Anatomy): string | undefined {
  if (info.vmdesc === undefined) return undefined;
  const { offset, length } = info.vmdesc;
  expect(inner.readUInt32BE(offset + 1)).toBe(length);
  return inner.toString('utf8', offset + 5, offset + 5 + length);
}

/** The description is valid, and the length of the name is all that is new in it. */
function checkVmdesc(before: Anatomy, after: Anatomy, machine: string): void {
  const [old, made] = [vmdescText(before), vmdescText(after)];
  expect(made === undefined).toBe(old === undefined);
  if (old === undefined || made === undefined) return;
  const expected: Described = JSON.parse(old);
  const field = expected.configuration?.fields.find(({ name }) => name === 'name');
  if (field !== undefined) field.size = machine.length;
  expect(JSON.parse(made)).toEqual(expected);
  const digits = /"size": ?\d+/;
  expect(made.replace(digits, '')).toHaveLength(
    old.replace(digits, '').length + difference(old, made),
  );
  expect(parseVmdesc(Buffer.from(made), 0).devices.length).toBeGreaterThan(5);
}

/** By how much the number that changed got longer, where it is not the first one. */
function difference(old: string, made: string): number {
  const first = (text: string) => /"size": ?(\d+)/.exec(text)?.[1]?.length ?? 0;
  return made.length - old.length - (first(made) - first(old));
}

test('descriptions of QEMU 9 and later have the length, and it is edited', async () => {
  const guest = load(fixture('qemu/tcg100-ignshared.mig.gz'));
  const { bytes } = await rewritten(guest, { machine: 'pseries-10.0-with-a-tail' });
  const info = await describeStream(new BufferSource(bytes));
  const at = (info.vmdesc?.offset ?? 0) + 5;
  const { configuration }: Described = JSON.parse(
    bytes.toString('utf8', at, at + (info.vmdesc?.length ?? 0)),
  );
  const size = configuration?.fields.find(({ name }) => name === 'name')?.size;
  expect(size).toBe('pseries-10.0-with-a-tail'.length);
});

test('there and back again is the same', async () => {
  for (const { bytes, options, container } of NAMED) {
    if (container === 'qcow2') continue;
    const once = await rewritten(bytes(), { ...options, machine: 'pseries-1234567890.0' });
    const { before } = once.result.machine;
    const back = await rewritten(once.bytes, { ...options, machine: before });
    const compressed = once.result.wrapping.after.format !== 'none';
    const [left, right] = compressed
      ? [(await dissect(back.bytes)).inner, (await dissect(bytes())).inner]
      : [back.bytes, bytes()];
    expect(left.equals(right)).toBe(true);
  }
});

test('the same name changes nothing', async () => {
  const { bytes, result } = await rewritten(smallGuest(), { machine: 'pseries-7.2' });
  expect(result.identical).toBe(true);
  expect(bytes.equals(smallGuest())).toBe(true);
});

test('a description longer than any is not read for it', () => {
  const source = new BufferSource(Buffer.alloc(0));
  const configuration = { offset: 8, length: 9, machine: 'p-10', capabilities: [] };
  const named = { ...configuration, targetPageBits: undefined, uuid: undefined };
  const patches = machinePatches(
    source,
    'p',
    named,
    { offset: 100, length: 0xffffffff },
    DEFAULT_LIMITS,
  );
  expect(patches.map(({ from, to }) => [from, to])).toEqual([[9, 17]]);
});

test('a description that nothing can be found in stays as it is', async () => {
  const guest = smallGuest();
  const { bytes } = await rewritten(guest, { machine: 'p' });
  expect(bytes.subarray(-150).equals(guest.subarray(-150))).toBe(true);
});

describe('refused', () => {
  test.each(['pseries-2.1', 'pseries-2.2', 'pseries-2.3'])('%s', async (machine) => {
    const error = await refusal(rewritten(smallGuest(), { machine }));
    expect(error).toMatchObject({ code: 'E_UNSUPPORTED' });
    expect(error.message).toContain('footers');
  });

  test('not: machine types that only look like these', async () => {
    for (const machine of ['pseries-2.12', 'pseries-2.4', 'pseries-2.12-sxxm', 'pseries-22.3']) {
      expect((await rewritten(smallGuest(), { machine })).result.machine.after).toBe(machine);
    }
  });

  test.each(['qemu/slof-2.3.mig.gz', 'qemu/slof-2.1.mig.gz'])('%s has no name', async (file) => {
    const guest = load(fixture(file));
    expect(await refusal(rewritten(guest, { machine: 'pseries-2.4' }))).toMatchObject({
      code: 'E_UNSUPPORTED',
    });
    const bare = guestWith({ htab: [u32(18)], configured: false, ended: false });
    expect((await refusal(rewritten(bare, { machine: 'pseries-7.2' }))).code).toBe('E_UNSUPPORTED');
  });

  test.each(['', ' ', 'pseries 7', 'pseries\n', 'ps\u00e9ries', '\0', 'x'.repeat(256)])(
    'the name %j',
    async (machine) => {
      const error = await refusal(rewritten(smallGuest(), { machine }));
      expect(error).toMatchObject({ code: 'E_USAGE' });
    },
  );

  test('not: the longest name', async () => {
    const { bytes } = await rewritten(smallGuest(), { machine: 'x'.repeat(255) });
    expect((await dissect(bytes)).info.configuration?.machine).toBe('x'.repeat(255));
  });
});
