import { type VerifyReport, verify } from '../index.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { columns, count, json, printable, size } from './text.js';

/** What ends the command when the file is damaged, as for malformed input. */
const DAMAGED = 3;

/** `spapr-htab verify`; resolves to the exit code. */
export async function runVerify(
  file: string,
  args: InputArguments,
  signal: AbortSignal,
): Promise<number> {
  const report = await withInput(args, signal, (options) => verify(inputOf(file), options));
  if (args.json) process.stdout.write(`${json(report, 2)}\n`);
  else process.stdout.write(`${lines(report).join('\n')}\n`);
  return report.ok ? 0 : DAMAGED;
}

function lines(report: VerifyReport): string[] {
  const { name, ok, findings } = report;
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  const warnings = findings.length - errors;
  const verdict = ok ? 'sound' : count(errors, 'error');
  const strange = warnings === 0 ? '' : `, ${count(warnings, 'warning')}`;
  const out = [`${name}: ${verdict}${strange}`, ...facts(report).map((fact) => `  ${fact}`)];
  for (const { severity, code, message } of findings) {
    out.push(`${severity}: ${message} [${code}]`);
  }
  const printed = out.map(printable);
  if (report.table !== undefined && report.table.byPageSize.length > 0) {
    printed.push('', ...pageSizes(report.table));
  }
  return printed;
}

/** What was looked at. */
function facts({ stream, hpt, table }: VerifyReport): string[] {
  const out: string[] = [];
  if (stream !== undefined) {
    const ends = stream.footers ? 'each with its footer' : 'without footers';
    out.push(`${count(stream.sections.length, 'section')}, ${ends}`);
  }
  if (hpt?.radix) out.push('no HPT: the guest runs in radix mode');
  else if (hpt !== undefined) {
    out.push(
      `${count(hpt.blocks, 'block')} with ${hpt.carried} entries in ${count(hpt.parts, 'part')}`,
    );
  }
  if (table !== undefined) {
    out.push(
      `order ${table.order}: ${table.valid} valid, ${table.bolted} bolted, ` +
        `${table.primary} in their primary PTEG, ${table.secondary} in their secondary one`,
    );
  }
  return out;
}

function pageSizes({ byPageSize }: NonNullable<VerifyReport['table']>): string[] {
  const rows = byPageSize.map(({ base, actual, count }) => [size(base), size(actual), count]);
  return columns([['base page', 'actual page', 'entries'], ...rows]);
}
