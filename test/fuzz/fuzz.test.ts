import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { scratch } from '../helpers/sources.js';
import { loadFinding } from './finding.js';
import { Fuzzer } from './fuzzer.js';
import type { Input } from './judge.js';
import { run } from './run.js';
import { TARGETS, targetOf } from './targets/all.js';
import { Watchdog } from './watch.js';

/** For each parser; fewer where an input takes several processes, files or tables. */
const INPUTS = 100;
const FEWER: Readonly<Record<string, number>> = {
  compressed: 40,
  convert: 40,
  rewrite: 40,
  image: 40,
};

test('every parser holds its promises on the inputs of a fixed seed', async () => {
  const names = TARGETS.map(({ name }) => name);
  const folder = join(scratch(), 'found');
  const most = (name: string): number => FEWER[name] ?? INPUTS;
  for (const inputs of new Set(names.map(most))) {
    const parsers = names.filter((name) => most(name) === inputs);
    const results = await run({ parsers, seed: 7, inputs, folder });
    for (const { parser, figures, found } of results) {
      expect(found, parser).toEqual([]);
      expect(figures.inputs, parser).toBe(inputs);
      // Neither is everything noise that nobody reads, nor does all of it pass.
      expect(figures.accepted, parser).toBeGreaterThan(0);
      expect(figures.accepted, parser).toBeLessThan(inputs);
    }
  }
}, 400_000);

test('the same seed makes the same inputs, and another one others', async () => {
  const inputs = async (seed: number): Promise<string[]> => {
    const folder = join(scratch(), 'work');
    mkdirSync(folder, { recursive: true });
    const fuzzer = new Fuzzer(targetOf('kernel'), seed, folder);
    await fuzzer.begin();
    const tried: string[] = [];
    const note = ({ bytes, variant }: Input): void =>
      void tried.push(variant + bytes.toString('hex'));
    for (let i = 0; i < 40; i++) expect(await fuzzer.step(note)).toBeUndefined();
    return tried;
  };
  const first = await inputs(1);
  expect(await inputs(1)).toEqual(first);
  expect(await inputs(2)).not.toEqual(first);
});

/** Inputs that something was wrong with once. */
const REGRESSIONS = fileURLToPath(new URL('./regressions/', import.meta.url));
const stored = readdirSync(REGRESSIONS).filter((name) => name.endsWith('.bin'));

describe('what was found once', () => {
  const watchdog = new Watchdog(join(scratch(), 'found'));
  afterAll(() => watchdog[Symbol.asyncDispose]());

  test.each(stored)('%s holds every invariant', async (name) => {
    const { bytes, finding } = loadFinding(join(REGRESSIONS, name));
    const { parser, variant, valid } = finding;
    const encoded = bytes.toString('base64');
    const task = { type: 'replay', parser, variant, bytes: encoded, valid } as const;
    expect((await watchdog.run(task)).found).toEqual([]);
  });
});
