import { type CheckReason, checkSnapshot, type SnapshotCheck, type Verdict } from '../index.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { columns, count, json, printable } from './text.js';

export interface CheckArguments extends InputArguments {
  readonly vmstate: string;
}

/** Exit code for a snapshot that the target would refuse; the README lists them. */
const REFUSED = 5;

/** `spapr-htab check`; resolves to the exit code. */
export async function runCheck(
  file: string,
  args: CheckArguments,
  signal: AbortSignal,
): Promise<number> {
  const report = await withInput(args, signal, (options) =>
    checkSnapshot(inputOf(file), args.vmstate, options),
  );
  const text = args.json ? json(report, 2) : lines(report).join('\n');
  process.stdout.write(`${text}\n`);
  return report.verdict === 'refused' ? REFUSED : 0;
}

interface Part {
  readonly name: string;
  readonly version: number | string;
  readonly compared: string;
  readonly verdict: Verdict;
  readonly reasons: readonly CheckReason[];
}

const ORDER: readonly Verdict[] = ['refused', 'unknown', 'ok'];

function lines(report: SnapshotCheck): string[] {
  const { configuration, sections } = report;
  const parts: Part[] = [
    { name: 'configuration', version: '', compared: 'machine type', ...configuration },
    ...sections.map((s) => ({
      ...s,
      name: s.instance === 0 ? s.name : `${s.name} instance ${s.instance}`,
    })),
  ];
  const sorted = ORDER.flatMap((verdict) => parts.filter((part) => part.verdict === verdict));
  const rows = sorted.map((part) => [
    part.verdict,
    printable(part.name),
    part.version,
    part.compared,
  ]);
  return [
    `Snapshot:    ${printable(configuration.machine ?? 'machine type not recorded')}`,
    `Target:      ${printable(configuration.target)}`,
    `Verdict:     ${summary(report)}`,
    '',
    ...columns([['verdict', 'section', 'version', 'compared'], ...rows]),
    '',
    ...reasonLines(sorted.flatMap((part) => part.reasons)),
    ...report.warnings.map(({ message }) => printable(`warning: ${message}`)),
    ...report.notes.map((note) => `note: ${note}`),
  ];
}

function reasonLines(reasons: readonly CheckReason[]): string[] {
  const line = ({ refuses, path, message }: CheckReason): string =>
    printable(`${refuses ? 'refused' : 'unknown'}: ${path}: ${message}`);
  const refusing = reasons.filter((reason) => reason.refuses);
  const others = reasons.filter(({ refuses, code }) => !refuses && code !== 'not-described');
  const lines = new Set([...refusing, ...others].map(line));
  // Every snapshot has these.
  const names = new Set(reasons.filter((r) => r.code === 'not-described').map(({ path }) => path));
  if (names.size > 0) {
    lines.add(printable(`unknown: ${[...names].join(', ')}: such state is in no dump`));
  }
  return [...lines];
}

function summary({ verdict, counts, configuration }: SnapshotCheck): string {
  const { ok, refused, unknown } = counts;
  const numbers = `${count(refused, 'section')} refused, ${ok} ok, ${unknown} that cannot be told`;
  if (verdict !== 'refused') return `nothing is seen to be refused: ${numbers}`;
  const start = configuration.verdict === 'refused' ? 'the configuration, ' : '';
  return `it would be refused: ${start}${numbers}`;
}
