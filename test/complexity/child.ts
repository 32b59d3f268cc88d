/** Measures one case in a process of its own: `node --expose-gc child.mjs NAME`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Run, Usage } from './case.js';
import { CASES } from './cases.js';
import { exponent, exponentAbove } from './fit.js';

/** Above this, more rounds are run: noise only ever adds. */
const SUSPICIOUS = 1.2;
const ROUNDS = 5;
/** Time that a collection can take. */
const NOISE_MS = 5;
/** Memory that comes and goes with the collector. */
const NOISE_MIB = 24;

export interface Measured {
  readonly name: string;
  /** Fastest of the rounds, and largest resident set when it was first reached. */
  readonly points: readonly { readonly size: number; readonly usage: Usage }[];
  readonly time: number;
  /** Of the time above that of the smallest size. */
  readonly growth: number;
  readonly memory: number;
  readonly rounds: number;
}

async function measured(run: Run): Promise<Usage> {
  globalThis.gc?.();
  const began = process.cpuUsage();
  const usage = await run();
  const { user, system } = process.cpuUsage(began);
  return usage ?? { cpuMs: (user + system) / 1000, peakMiB: process.resourceUsage().maxRSS / 1024 };
}

async function measure(name: string): Promise<Measured> {
  const one = CASES.find((candidate) => candidate.name === name);
  if (one === undefined) throw new Error(`no case ${name}`);
  const folder = mkdtempSync(join(tmpdir(), 'spapr-htab-complexity-'));
  try {
    // What is compiled and loaded at first is no part of it.
    const warm = await measured(await one.prepare(one.sizes[1], folder));
    const points = new Map<number, Usage>();
    for (let round = 1; ; round++) {
      for (const size of [...one.sizes.slice(0, 2), ...one.sizes]) {
        const usage = await measured(await one.prepare(size, folder));
        const { cpuMs, peakMiB } = points.get(size) ?? usage;
        points.set(size, { cpuMs: Math.min(cpuMs, usage.cpuMs), peakMiB });
      }
      const all = [...points];
      const times = all.map(([size, { cpuMs }]) => [size, cpuMs] as const);
      const time = exponent(times);
      const growth = exponentAbove(times, NOISE_MS);
      if (Math.max(time, growth) > SUSPICIOUS && round < ROUNDS) continue;
      const above = ({ peakMiB }: Usage): number => Math.max(NOISE_MIB, peakMiB - warm.peakMiB);
      const memory = exponent(all.map(([size, usage]) => [size, above(usage)]));
      const list = all.map(([size, usage]) => ({ size, usage }));
      return { name, points: list, time, growth, memory, rounds: round };
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

console.log(JSON.stringify(await measure(process.argv[2] ?? '')));
