import type { ByteSource } from '../bytes/source.js';
import { type DescribeDevicesOptions, describeDevices } from '../devices/describe.js';
import type { Configuration, StreamEvent } from '../qevm/elements.js';
import { Effort } from './align.js';
import { type ConfigurationCheck, checkConfiguration } from './configuration.js';
import type { VmstateDump } from './dump.js';
import { type Verdict, worst } from './outcome.js';
import { checkDevice, checkIterable, type SectionCheck, unread } from './section.js';
import { TargetIndex } from './target.js';

/** What the target makes of a stream. Plain data: what `spapr-htab check --json` prints. */
export interface CheckReport {
  /** `refused` when any part is; else `unknown` when any part is. */
  readonly verdict: Verdict;
  /** Sections by verdict; the configuration is not counted. */
  readonly counts: Readonly<Record<Verdict, number>>;
  readonly configuration: ConfigurationCheck;
  /** In the order of the stream. */
  readonly sections: readonly SectionCheck[];
  /** What no dump can tell, whatever the snapshot. */
  readonly notes: readonly string[];
}

const NOTES: readonly string[] = [
  'The devices, their addresses and the RAM blocks of the target depend on its command line, which no dump shows.',
  'Values are not compared: a device may refuse one, such as a number of interrupts that differs.',
];

/**
 * Walks a stream and says of each section what that target would make of it.
 *
 * Fields are compared where the stream describes them, which needs a source that can seek. A section
 * whose length is recorded nowhere ends the walk; it is the last one then, and `unknown`.
 *
 * @throws what {@link describeDevices} throws
 */
export async function checkStream(
  source: ByteSource,
  dump: VmstateDump,
  options: Omit<DescribeDevicesOptions, 'onEvent'> = {},
): Promise<CheckReport> {
  let configuration: Configuration | undefined;
  const sections: SectionCheck[] = [];
  const { counted } = dump;
  const target = { index: new TargetIndex(dump), counted, effort: new Effort() };
  const onEvent = (event: StreamEvent): void => {
    if (event.type === 'configuration') configuration = event.configuration;
    if (event.type === 'section' && event.kind === 'start') {
      const { section, offset } = event;
      sections.push({ ...section, offset, ...checkIterable(section) });
    }
    if (event.type === 'opaque') {
      const { section, offset, reason } = event;
      sections.push({ ...section, offset, ...unread(section, reason) });
    }
  };
  for await (const device of describeDevices(source, { ...options, onEvent })) {
    const { section, offset } = device;
    sections.push({ ...section, offset, ...checkDevice(device, target) });
  }
  const start = checkConfiguration(configuration, dump.machine);
  const counts = { ok: 0, refused: 0, unknown: 0 };
  for (const { verdict } of sections) counts[verdict]++;
  return {
    verdict: worst([start.verdict, ...sections.map(({ verdict }) => verdict)]),
    counts,
    configuration: start,
    sections,
    notes: NOTES,
  };
}
