import Table from 'cli-table3';
import type { Growth, SizeResult } from './run.js';

/** No lines between rows. */
const PLAIN = {
  style: { head: [], border: [], compact: true },
  chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
};

/** MiB by which the peak may differ between sizes: what the collector leaves by chance. */
const PEAK_NOISE = 12;

const seconds = (value: number): string =>
  value < 1 ? `${(value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`;
const ratio = (value: number): string => value.toFixed(2);
const verdict = (value: number, limit: number | undefined): string =>
  limit === undefined ? '' : value <= limit ? 'ok' : 'OVER';
const limited = (limit: number | undefined): string => (limit === undefined ? '' : ratio(limit));

/** Every case by what it is compared with; medians. */
export function ratioTable(results: readonly SizeResult[]): string {
  const head = ['case', 'size', 'ours', 'against', 'theirs', 'ratio', 'target', '', 'peak MiB', ''];
  const table = new Table({ ...PLAIN, head });
  for (const { case: name, size, ours, against, figures, peakLimit } of results) {
    const bounded = Number.isFinite(peakLimit);
    const peak = [ours.peakMiB.toFixed(0), bounded ? verdict(ours.peakMiB, peakLimit) : ''];
    const rows = [
      ...against.map((other) => [
        other.name,
        seconds(other.median),
        ratio(other.ratio),
        limited(other.limit),
        verdict(other.ratio, other.limit),
      ]),
      ...figures.map(({ name: figure, median, limit }) => [
        `(${figure})`,
        '',
        ratio(median),
        limited(limit),
        verdict(median, limit),
      ]),
    ];
    rows.forEach((row, i) => {
      const first = i === 0;
      const mine = first ? [name, size, seconds(ours.median)] : ['', '', ''];
      table.push([...mine, ...row, ...(first ? peak : ['', ''])]);
    });
  }
  return table.toString();
}

/** How time and memory grow from size to size. */
export function growthTable(growth: readonly Growth[]): string {
  const head = ['case', 'from', 'to', 'time', 'target', '', 'peak MiB', ''];
  const table = new Table({ ...PLAIN, head });
  for (const step of growth) {
    table.push([
      step.case,
      step.from,
      step.to,
      `x ${ratio(step.ratio)}`,
      ratio(step.limit),
      verdict(step.ratio, step.limit),
      `${step.peakGrowth >= 0 ? '+' : ''}${step.peakGrowth.toFixed(0)}`,
      verdict(step.peakGrowth, step.peakLimited ? PEAK_NOISE : undefined),
    ]);
  }
  return table.toString();
}
