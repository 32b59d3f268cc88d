import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { scratch } from '../helpers/sources.js';
import { loadFinding } from './finding.js';
import { run } from './run.js';
import { Watchdog } from './watch.js';

/** As in a run, but that nobody has to wait for long. */
const LIMITS = { cpuSeconds: 8, wallSeconds: 20, heapMiB: 96, memoryMiB: 512 };
/** Where waiting is what the test is about. */
const IMPATIENT = { ...LIMITS, cpuSeconds: 1, wallSeconds: 3 };

const onLinux = process.platform === 'linux';

describe('a parser with a fault', () => {
  test.each([
    ['hang', 'hang', /CPU time/],
    ['wait', 'hang', /nothing came of it/],
    ['out of heap', 'memory', /SIG|heap|MiB/],
    ['out of memory', 'memory', /MiB/],
    ['crash', 'crash', /SIGSEGV/],
    ['wrong error', 'error', /TypeError: cannot read/],
    ['lost rejection', 'rejection', /nobody waits for this/],
    ['other result', 'same result', /whole: /],
    ['offset beyond', 'offset', /offset \d+ in an input of \d+ bytes/],
  ])('%s: is seen, and the input is kept', async (fault, invariant, words) => {
    // Time of the processor and memory of another process can be told on Linux alone.
    const seen = onLinux || !['hang', 'out of memory'].includes(fault);
    const parser = `staged: ${fault}`;
    await using watchdog = new Watchdog(scratch(), invariant === 'hang' ? IMPATIENT : LIMITS);
    const task = { type: 'fuzz', parser, seed: 1, inputs: 1000, seconds: 60, most: 1 } as const;
    const { found } = await watchdog.run(task);
    if (!seen) return;
    expect(found.map(({ finding }) => finding.invariant)).toEqual([invariant]);
    const [first] = found;
    expect(first?.finding.message).toMatch(words);
    expect(first?.finding.parser).toBe(parser);
    // The same input shows the same, in a process that has seen no other.
    const { bytes, finding } = loadFinding(first?.path ?? '');
    expect(finding).toEqual(first?.finding);
    expect((bytes[0] ?? 0) & 1).toBe(1);
    const again = await watchdog.run({
      type: 'replay',
      parser,
      variant: finding.variant,
      bytes: bytes.toString('base64'),
    });
    expect(again.found.map((one) => one.finding.invariant)).toEqual([invariant]);
  });
});

test('memory that many inputs leave behind is seen, and another process goes on', async () => {
  const options = { parsers: ['staged: leak'], seed: 1, inputs: 400, findings: 2 };
  const [result] = await run({ ...options, folder: scratch(), limits: LIMITS });
  expect(result?.found.map(({ finding }) => finding.invariant)).toEqual(['leak', 'leak']);
});

test('a run goes on in another process after a crash, and stores each input', async () => {
  const parsers = ['staged: crash', 'staged: wrong error'];
  const options = { parsers, seed: 1, inputs: 50, findings: 3, folder: scratch(), limits: LIMITS };
  const [crashed, other] = await run(options);
  const found = [...(crashed?.found ?? []), ...(other?.found ?? [])];
  expect(found.map(({ finding }) => finding.invariant)).toEqual([
    ...Array(3).fill('crash'),
    ...Array(3).fill('error'),
  ]);
  for (const { path } of found) expect(readFileSync(path ?? '').length).toBeGreaterThan(0);
});
