import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { scratch } from '../helpers/sources.js';
import { installed } from '../qemu/guest.js';
import { CLASSES } from './classes.js';
import { Differential, describeTrial, judge } from './examine.js';
import { MUTATIONS } from './mutations.js';

const hasQemu = ['qemu-system-ppc64', 'prlimit'].every((program) =>
  installed(program, 'what QEMU makes of mutated sections'),
);

/** A stream of seed 1 for each class. */
const EXAMPLES: Readonly<Record<string, number>> = {
  'order-below-18': 17,
  'order-above-46': 61,
  'kind-of-element': 25,
  'blocks-before-the-order': 108,
  'shared-id': 79,
  'no-section': 28,
  'description-cut-short': 15,
  'little-endian-headers': 41,
  instance: 32,
  'part-after-no-hpt': 198,
  'no-memory-for-the-table': 107,
  assertion: 5,
  memory: 151,
  'sum-wraps': 90,
};

test('docs/differential.md has every class, and no other', () => {
  const listed = [...readFileSync('docs/differential.md', 'utf8').matchAll(/^\| `([\w-]+)` \|/gm)];
  const names = CLASSES.map(({ name }) => name);
  expect(listed.map(([, name]) => name).sort()).toEqual([...names].sort());
  expect(Object.keys(EXAMPLES).sort()).toEqual([...names].sort());
});

// A machine can be busy, and each stream is a QEMU.
describe.skipIf(!hasQemu)('mutated sections in QEMU and here', { timeout: 600_000 }, () => {
  let differential: Differential;
  beforeAll(async () => {
    differential = await Differential.create(scratch());
  });

  test.concurrent.for(CLASSES.map(({ name }) => name))('class %s occurs', async (name) => {
    const trial = await differential.trial(1, EXAMPLES[name] ?? -1, `class-${name}`);
    const result = judge(trial);
    expect(result, describeTrial(trial)).toMatchObject({ kind: 'class', known: { name } });
  });

  test('each mutation, alone or with another: one verdict, one table', async () => {
    const kinds = new Map<string, number>();
    let next = 0;
    const worker = async (folder: string): Promise<void> => {
      while (next < MUTATIONS.length) {
        const trial = await differential.trial(2, next++, folder);
        const result = judge(trial);
        expect(result, describeTrial(trial)).not.toHaveProperty('what');
        kinds.set(result.kind, (kinds.get(result.kind) ?? 0) + 1);
      }
    };
    await Promise.all([worker('one'), worker('two')]);
    expect(kinds.get('accepted')).toBeGreaterThan(MUTATIONS.length / 6);
    expect(kinds.get('refused')).toBeGreaterThan(MUTATIONS.length / 6);
  });

  test('from what rewrite makes of a stream, QEMU loads the same table', async () => {
    for (const number of [0, 8]) {
      const trial = await differential.trial(3, number, 'rewritten');
      expect(judge(trial), describeTrial(trial)).toEqual({ kind: 'accepted' });
      expect(await differential.rewritten(trial, 'rewritten')).toBeUndefined();
    }
  });
});
