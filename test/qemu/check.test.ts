import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { BufferSource, checkSnapshot, readVmstateDump, type VmstateDump } from 'spapr-htab';
import { describe, expect, type TestContext, test } from 'vitest';
import { fixture, load } from '../helpers/fixtures.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { str8, u32, u64 } from '../helpers/stream.js';
import { installed, refusal } from './guest.js';

const hasQemu = installed('qemu-system-ppc64', 'what QEMU really refuses');

const machines = hasQemu
  ? execFileSync('qemu-system-ppc64', ['-M', 'help'], { encoding: 'utf8' })
  : '';

function needs(machine: string, context: TestContext): void {
  context.skip(!machines.includes(`\n${machine} `), `this QEMU has no ${machine}`);
}

const dumps = new Map<string, Promise<VmstateDump>>();

/** What this QEMU says of itself. */
function dumpOf(machine: string): Promise<VmstateDump> {
  const known = dumps.get(machine);
  if (known !== undefined) return known;
  const path = join(scratch(), `${machine}.json`);
  execFileSync('qemu-system-ppc64', ['-M', machine, '-dump-vmstate', path], { stdio: 'ignore' });
  const made = readVmstateDump(path);
  dumps.set(machine, made);
  return made;
}

/** The stream with another machine type, of the same length, in its configuration. */
function renamed(stream: Buffer, machine: string): Buffer {
  const length = stream.readUInt32BE(9);
  expect([stream[8], length]).toEqual([7, machine.length]);
  return Buffer.concat([
    stream.subarray(0, 13),
    Buffer.from(machine),
    stream.subarray(13 + length),
  ]);
}

interface Change {
  readonly version?: number;
  readonly payload?: (bytes: Buffer) => Buffer;
  /** What stands once in the description, and what takes its place. */
  readonly description?: readonly [from: string, to: string];
}

/** The stream with one device section changed, and its description with it. */
async function changed(stream: Buffer, name: string, change: Change): Promise<Buffer> {
  const { sections } = await checkSnapshot(new BufferSource(stream), await dumpOf('pseries-7.2'));
  const section = sections.find((s) => s.name === name);
  if (section === undefined) throw new Error(`no section ${name}`);
  // Type, id, counted name and instance come before the version.
  const version = section.offset + 1 + 4 + 1 + name.length + 4;
  const payload = version + 4;
  const footer = stream.indexOf(Buffer.concat([Buffer.of(0x7e), u32(section.id)]), payload);
  const json = stream.lastIndexOf('{"page_size"');
  const [from, to] = change.description ?? ['"page_size"', '"page_size"'];
  const parts = stream.subarray(json).toString().split(from);
  expect(parts.length).toBe(2);
  const text = parts.join(to);
  const bytes = stream.subarray(payload, footer);
  return Buffer.concat([
    stream.subarray(0, version),
    u32(change.version ?? section.version),
    change.payload?.(bytes) ?? bytes,
    stream.subarray(footer, json - 4),
    u32(text.length),
    Buffer.from(text),
  ]);
}

/** The verdict, after QEMU was seen to agree: it loads what is not refused, and only that. */
async function agreed(file: string, machine: string, stream: Buffer) {
  const path = scratchFile('stream.mig', stream);
  const report = await checkSnapshot(path, await dumpOf(machine));
  const said = await refusal(fixture(file), machine, path);
  expect(said === undefined ? 'loaded' : `refused: ${said}`).toMatch(
    report.verdict === 'refused' ? /^refused: / : /^loaded$/,
  );
  const reasons = [report.configuration, ...report.sections].flatMap((part) => part.reasons);
  return { said, reasons: reasons.filter((reason) => reason.refuses).map(({ code }) => code) };
}

describe.skipIf(!hasQemu)('QEMU refuses what is said to be refused', () => {
  test.for<[string, string, string[]]>([
    ['qemu/slof-2.1.mig.gz', 'pseries-2.1', []],
    ['qemu/slof-2.3.mig.gz', 'pseries-2.3', []],
    ['qemu/slof-2.3.mig.gz', 'pseries-2.4', ['configuration']],
    ['qemu/slof-2.4.mig.gz', 'pseries-2.4', []],
    ['qemu/slof-2.4.mig.gz', 'pseries-2.3', ['configuration']],
    ['qemu/slof-2.4.mig.gz', 'pseries-2.5', ['machine']],
    ['qemu/slof-7.2.mig.gz', 'pseries-7.2', []],
    ['qemu/slof-7.2.mig.gz', 'pseries-7.1', ['machine']],
    ['qemu/linux-p9-hash.mig.gz', 'pseries-7.2', []],
  ])('%s on %s', async ([file, machine, expected], context) => {
    needs(machine, context);
    const { reasons } = await agreed(file, machine, load(fixture(file)));
    expect(reasons).toEqual(expected);
  });

  test.each(['pseries-7.1', 'pseries-7.0', 'pseries-6.0'])(
    'as if it were of %s',
    async (machine) => {
      const file = 'qemu/slof-7.2.mig.gz';
      const { reasons } = await agreed(file, machine, renamed(load(fixture(file)), machine));
      expect(reasons).toEqual([]);
    },
  );

  const RTC = 'spapr/rtc';
  const FIELD = '{"name": "ns_offset", "type": "int64", "size": 8}';
  const MORE = '{"name": "more", "type": "int64", "size": 8}';
  const SUBSECTION = `{"vmsd_name": "spapr/rtc/more", "version": 1, "fields": [${MORE}]}`;
  const subsection = Buffer.concat([Buffer.of(5), str8('spapr/rtc/more'), u32(1), u64(1)]);
  const cases: readonly [string, string, Change, string[], RegExp?][] = [
    ['nothing', RTC, {}, []],
    ['another name of a field', RTC, { description: ['ns_offset', 'offset_ns'] }, []],
    ['a newer version', RTC, { version: 2 }, ['version-too-new'], /unsupported version 2/],
    ['an older one', 'spapr_pci', { version: 1 }, ['version-too-old'], /version_id 1 is too old/],
    [
      'an unknown subsection',
      RTC,
      {
        payload: (bytes) => Buffer.concat([bytes, subsection]),
        description: [`${FIELD}]`, `${FIELD}], "subsections": [${SUBSECTION}]`],
      },
      ['subsection-unknown'],
      /error while loading state .*spapr\/rtc/,
    ],
    [
      'a field more',
      RTC,
      {
        payload: (bytes) => Buffer.concat([bytes, u64(1)]),
        description: [FIELD, `${FIELD}, ${MORE}`],
      },
      ['extra-fields'],
      /Missing section footer for spapr\/rtc/,
    ],
    [
      'a field less',
      RTC,
      { payload: () => Buffer.alloc(0), description: [FIELD, ''] },
      ['missing-fields'],
      /Missing section footer for spapr\/rtc/,
    ],
    [
      'a narrower field',
      RTC,
      {
        payload: () => u32(1),
        description: [FIELD, '{"name": "ns_offset", "type": "int32", "size": 4}'],
      },
      ['field-size'],
      /Missing section footer for spapr\/rtc/,
    ],
  ];
  test.for(cases)('with %s in %s', async ([_, name, change, expected, message], context) => {
    needs('pseries-7.2', context);
    const file = 'qemu/slof-7.2.mig.gz';
    const stream = await changed(load(fixture(file)), name, change);
    const { said, reasons } = await agreed(file, 'pseries-7.2', stream);
    expect(reasons).toEqual(expected);
    if (message !== undefined) expect(said).toMatch(message);
  });
});
