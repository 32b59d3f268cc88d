/**
 * `npm run bench`: each case against its yardstick in the same run; a table of ratios.
 */
import { mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Case, Workshop } from './case.js';
import { freeBytes } from './inputs/space.js';
import { InputStore } from './inputs/store.js';
import { compileReferences, requireBuild } from './programs.js';
import { growthTable, ratioTable } from './report.js';
import { type Growth, runCase, type SizeResult } from './run.js';
import { shortSuite, suite } from './suite.js';

const CACHE = fileURLToPath(new URL('../.cache/bench/', import.meta.url));

const USAGE = `usage: npm run bench -- [options]

  --filter TEXT    only cases whose name has this text; may be given more than once
  --rounds N       rounds of each case (default: 5)
  --short          small inputs: shows that results are right, says nothing about speed
  --ram LIST       GiB of RAM of the raw and mapped-ram snapshots, as in 1,4,16
  --dir DIR        where inputs are made (default: test/.cache/bench)
  --outputs DIR    where outputs go (default: memory, in /dev/shm, if there is room; else DIR)
  --keep           leave the inputs for the next run
  --json           JSON with every round instead of tables
  --list           the names of cases

The command's output and its yardstick's are synced within the time. The full suite takes 20 GiB
and half an hour; nothing else should run meanwhile.`;

interface Report {
  readonly machine: { readonly cpu: string; readonly cpus: number; readonly memoryGiB: number };
  readonly node: string;
  readonly rounds: number;
  readonly results: readonly SizeResult[];
  readonly growth: readonly Growth[];
  readonly wrong: readonly string[];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      filter: { type: 'string', multiple: true, default: [] },
      rounds: { type: 'string', default: '5' },
      ram: { type: 'string' },
      dir: { type: 'string', default: CACHE },
      outputs: { type: 'string' },
      short: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const ram = values.ram?.split(',').map((text) => wholeNumber('ram', text));
  const all = values.short ? shortSuite() : suite({ ram });
  const cases = all.filter(
    ({ name }) => values.filter.length === 0 || values.filter.some((text) => name.includes(text)),
  );
  if (values.list) return console.log(cases.map(({ name }) => name).join('\n'));
  if (cases.length === 0) throw new Error(`no case has that in its name; see --list`);
  requireBuild();
  const dir = resolve(values.dir);
  mkdirSync(dir, { recursive: true });
  const outputs = mkdtempSync(join(values.outputs ?? outputFolder(cases, dir), 'bench-'));
  try {
    const rounds = wholeNumber('rounds', values.rounds);
    const report = await run(cases, { dir, outputs, rounds, keep: values.keep });
    if (values.json) console.log(JSON.stringify(report, null, 2));
    else console.log(`${ratioTable(report.results)}\n${growthTable(report.growth)}`);
    for (const wrong of report.wrong) console.error(`WRONG: ${wrong}`);
    if (report.wrong.length > 0) process.exitCode = 1;
  } finally {
    rmSync(outputs, { recursive: true, force: true });
  }
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number > 0 && number < 2 ** 20) return number;
  throw new Error(`--${name} takes whole numbers from 1, not "${text}"\n\n${USAGE}`);
}

/** Memory, where no device is measured, if there is room for outputs and the page cache. */
function outputFolder(cases: readonly Case[], dir: string): string {
  const most = Math.max(...cases.flatMap(({ sizes }) => sizes.map((size) => size.outputBytes)));
  const memory = '/dev/shm';
  const fits = most * 2 < totalmem() && statfsSync(memory, { bigint: true }).type === 0x01021994n;
  return fits && freeBytes(memory) > most * 2 ? memory : dir;
}

interface RunFolders {
  readonly dir: string;
  readonly outputs: string;
  readonly rounds: number;
  readonly keep: boolean;
}

async function run(
  cases: readonly Case[],
  { dir, outputs, rounds, keep }: RunFolders,
): Promise<Report> {
  const say = (what: string): void => console.error(what);
  const inputs = new InputStore(dir, say);
  const shop: Workshop = {
    inputs,
    references: compileReferences(join(dir, 'programs')),
    output: (name) => join(outputs, name),
  };
  const clear = (): void => {
    rmSync(outputs, { recursive: true, force: true });
    mkdirSync(outputs);
  };
  process.once('SIGINT', () => {
    if (!keep) inputs.clear();
    rmSync(outputs, { recursive: true, force: true });
    process.exit(130);
  });
  const results: SizeResult[] = [];
  const growth: Growth[] = [];
  const wrong: string[] = [];
  try {
    for (const [i, one] of cases.entries()) {
      try {
        const done = await runCase(one, shop, { rounds, outputs, clear, say });
        results.push(...done.sizes);
        growth.push(...done.growth);
      } catch (error) {
        wrong.push(`${one.name}: ${error instanceof Error ? error.message : error}`);
        clear();
      }
      if (!keep && cases[i + 1]?.group !== one.group) inputs.clear();
    }
  } finally {
    if (!keep) inputs.clear();
  }
  const [cpu] = cpus();
  const memoryGiB = Math.round(totalmem() / 2 ** 30);
  const machine = { cpu: cpu?.model ?? 'unknown', cpus: cpus().length, memoryGiB };
  return { machine, node: process.version, rounds, results, growth, wrong };
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
