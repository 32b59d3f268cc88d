/**
 * `npm run fuzz`: damaged and generated inputs for every parser, in processes that are watched.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadFinding } from './finding.js';
import { type ParserResult, run } from './run.js';
import { TARGETS } from './targets/all.js';
import { Watchdog } from './watch.js';

/** Findings of one kind that are printed; all are stored. */
const MOST_SHOWN = 3;
const FOUND = fileURLToPath(new URL('../.cache/fuzz/', import.meta.url));

const USAGE = `usage: npm run fuzz -- [options]

  --seconds N      for all parsers together (default: 60)
  --inputs N       for each parser; the same seed tries the same inputs
  --parser NAME    only this one; may be given more than once
  --seed S         (default: the time)
  --jobs J         processes at once (default: 1)
  --found DIR      where inputs go that something is wrong with (default: test/.cache/fuzz)
  --input FILE     tries one such input again, by every way, and says what is wrong
  --json           figures and findings as JSON
  --list           the names of parsers`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string' },
      inputs: { type: 'string' },
      parser: { type: 'string', multiple: true },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      jobs: { type: 'string', default: '1' },
      found: { type: 'string', default: FOUND },
      input: { type: 'string' },
      json: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const names = TARGETS.map(({ name }) => name);
  if (values.help) return console.log(USAGE);
  if (values.list) return console.log(names.join('\n'));
  if (values.input !== undefined) return replay(values.input);
  const parsers = values.parser ?? names;
  const unknown = parsers.filter((name) => !names.includes(name));
  if (unknown.length > 0) throw new Error(`there is no parser ${unknown.join(', ')}; see --list`);
  const inputs = values.inputs === undefined ? undefined : wholeNumber('inputs', values.inputs);
  const total = values.seconds ?? (inputs === undefined ? '60' : undefined);
  const seed = wholeNumber('seed', values.seed);
  const jobs = wholeNumber('jobs', values.jobs);
  const seconds =
    total === undefined ? undefined : (wholeNumber('seconds', total) * jobs) / parsers.length;
  const onResult = values.json ? undefined : (result: ParserResult) => console.log(lines(result));
  if (!values.json) console.log(`seed ${seed}, ${parsers.length} parsers`);
  const results = await run({
    parsers,
    seed,
    seconds,
    inputs,
    jobs,
    folder: values.found,
    onResult,
  });
  if (values.json) console.log(JSON.stringify({ seed, results }, null, 2));
  else console.log(summary(results));
  if (results.some(({ found }) => found.length > 0)) process.exitCode = 1;
}

function lines({ parser, figures, found }: ParserResult): string {
  const { inputs, accepted, refused, ways, milliseconds } = figures;
  const codes = Object.entries(refused)
    .sort(([, a], [, b]) => b - a)
    .map(([code, count]) => `${code} ${count}`);
  const text = [
    `${parser}: ${inputs} inputs in ${(milliseconds / 1000).toFixed(1)} s, ${accepted} accepted, ` +
      `${ways} ways, ${found.length} findings`,
    `    refused: ${codes.join(', ') || 'none'}`,
  ];
  const shown = new Map<string, number>();
  for (const { path, finding } of found) {
    const before = shown.get(finding.invariant) ?? 0;
    shown.set(finding.invariant, before + 1);
    if (before >= MOST_SHOWN) continue;
    text.push(
      `    FOUND ${finding.invariant} (${finding.variant}): ${finding.message.slice(0, 600)}`,
    );
    text.push(`      reproduce: npm run fuzz -- --input ${path}`);
  }
  return text.join('\n');
}

function summary(results: readonly ParserResult[]): string {
  const sum = (of: (result: ParserResult) => number): number =>
    results.reduce((total, result) => total + of(result), 0);
  const seconds = sum(({ figures }) => figures.milliseconds) / 1000;
  return (
    `in all: ${sum(({ figures }) => figures.inputs)} inputs in ${seconds.toFixed(0)} s, ` +
    `${sum(({ found }) => found.length)} findings`
  );
}

async function replay(path: string): Promise<void> {
  const { bytes, finding } = loadFinding(path);
  const { parser, variant, valid } = finding;
  await using watchdog = new Watchdog(FOUND);
  const { found } = await watchdog.run({
    type: 'replay',
    parser,
    variant,
    bytes: bytes.toString('base64'),
    valid,
  });
  for (const { finding: now } of found) console.log(`${now.invariant}: ${now.message}`);
  if (found.length === 0) console.log('every invariant holds');
  else process.exitCode = 1;
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number < 2 ** 31) return number;
  throw new Error(`--${name} takes whole numbers, not "${text}"\n\n${USAGE}`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
});
