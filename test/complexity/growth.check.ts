import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { beforeAll, describe, expect, test } from 'vitest';
import { CASES } from './cases.js';
import type { Measured } from './child.js';
import { exponent, exponentAbove } from './fit.js';

const SOURCE = fileURLToPath(new URL('child.ts', import.meta.url));
/** Bundled, so that starting it takes little beside what is measured. */
const CHILD = fileURLToPath(new URL('../.cache/complexity.mjs', import.meta.url));

beforeAll(async () => {
  const how = {
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
  } as const;
  await build({ ...how, entryPoints: [SOURCE], outfile: CHILD });
});

/** Something that grows faster is not told apart from a line by noise alone. */
const LIMIT = 1.3;
/** Of two sizes that are less far apart, so that noise counts for more; a square is 1.8. */
const LIMIT_ABOVE = 1.6;
/** What the largest size has to take, so that it is the input that is measured. */
const ENOUGH_MS = 15;

test('an exponent is found', () => {
  const sizes = [1, 2.5, 6.3, 16];
  const points = (f: (x: number) => number): [number, number][] => sizes.map((x) => [x, f(x)]);
  expect(exponent(points((x) => 5 * x))).toBeCloseTo(1);
  expect(exponent(points((x) => x * x))).toBeCloseTo(2);
  expect(exponent(points(() => 7))).toBeCloseTo(0);
  expect(exponent(points((x) => 5 * x + x * x))).toBeGreaterThan(LIMIT);
  expect(
    exponentAbove(
      points((x) => 1000 + x),
      0.1,
    ),
  ).toBeCloseTo(1);
  expect(
    exponentAbove(
      points((x) => 1000 + x * x),
      0.1,
    ),
  ).toBeGreaterThan(1.7);
  expect(
    exponentAbove(
      points(() => 1000),
      5,
    ),
  ).toBeCloseTo(0);
});

test('names of cases are theirs alone, and sizes span 16 times', () => {
  expect(new Set(CASES.map(({ name }) => name)).size).toBe(CASES.length);
  for (const { name, sizes } of CASES) {
    expect(sizes[3] / sizes[0], name).toBeGreaterThan(15.5);
    expect(
      [...sizes].sort((a, b) => a - b),
      name,
    ).toEqual(sizes);
  }
});

describe('time and memory grow with the input, not faster', () => {
  test.concurrent.for(CASES.map(({ name }) => name))('%s', async (name, { expect }) => {
    const args = ['--expose-gc', CHILD, name];
    const run = await promisify(execFile)(process.execPath, args, { timeout: 110_000 });
    const { points, time, growth, memory, rounds } = JSON.parse(run.stdout) as Measured;
    const told = points.map(
      ({ size, usage }) => `${size}: ${usage.cpuMs.toFixed(0)} ms, ${usage.peakMiB.toFixed(0)} MiB`,
    );
    const all = `time ^${time.toFixed(2)} and ^${growth.toFixed(2)}, memory ^${memory.toFixed(2)}, ${rounds} rounds; ${told.join('; ')}`;
    console.log(`${name}: ${all}`);
    expect(points.at(-1)?.usage.cpuMs, all).toBeGreaterThan(ENOUGH_MS);
    expect(time, all).toBeLessThan(LIMIT);
    expect(growth, all).toBeLessThan(LIMIT_ABOVE);
    expect(memory, all).toBeLessThan(LIMIT);
  });
});
