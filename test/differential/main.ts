/**
 * `npm run differential`: mutated `spapr/htab` sections go to QEMU and to the package, for as long as
 * is wanted.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Differential, describeTrial, judge, type Result, type Trial } from './examine.js';

const USAGE = 'usage: npm run differential -- [--seconds N] [--seed N] [--from N] [--workers N]';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
      from: { type: 'string', default: '0' },
      workers: { type: 'string', default: '2' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const [seconds, seed, from, workers] = [
    values.seconds,
    values.seed,
    values.from,
    values.workers,
  ].map((text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number > 2 ** 31) throw new Error(USAGE);
    return number;
  }) as [number, number, number, number];
  const folder = mkdtempSync(join(tmpdir(), 'spapr-htab-differential-'));
  try {
    const differential = await Differential.create(folder);
    const until = Date.now() + seconds * 1000;
    const counts = new Map<string, number[]>();
    let next = from;
    let rewritten = 0;
    const worker = async (id: number): Promise<void> => {
      while (Date.now() < until) {
        const trial = await differential.trial(seed, next++, String(id));
        const result = judge(trial);
        count(counts, result, trial.number);
        if (result.kind === 'unexplained') tell(trial, result.what);
        if (result.kind !== 'accepted') continue;
        const wrong = await differential.rewritten(trial, String(id));
        rewritten++;
        if (wrong !== undefined) tell(trial, wrong);
      }
    };
    await Promise.all(Array.from({ length: workers }, (_, id) => worker(id)));
    console.log(
      `seed ${seed}, streams ${from} to ${next - 1}; ${rewritten} loaded again rewritten`,
    );
    for (const [what, numbers] of [...counts].sort()) {
      console.log(`${numbers.length}\t${what}, first ${Math.min(...numbers)}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function count(counts: Map<string, number[]>, result: Result, number: number): void {
  const what = result.kind === 'class' ? `class ${result.known.name}` : result.kind;
  const numbers = counts.get(what);
  if (numbers === undefined) counts.set(what, [number]);
  else numbers.push(number);
}

function tell(trial: Trial, what: string): void {
  console.log(`${what}\n  ${describeTrial(trial)}`);
  process.exitCode = 1;
}

await main();
