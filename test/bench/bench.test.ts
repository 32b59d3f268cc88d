import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { plainEncode, plainKernel, plainSection } from '../helpers/reference.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import type { Case, Workshop } from './case.js';
import { FileWriter } from './inputs/file-writer.js';
import { type HptShape, type Runs, writeKernel, writeSection } from './inputs/hpt.js';
import { isZeroPage } from './inputs/memory.js';
import { requireSpace } from './inputs/space.js';
import { InputStore } from './inputs/store.js';
import { measure, median } from './measure.js';
import { compileReferences, type References } from './programs.js';
import { growthTable, ratioTable } from './report.js';
import { runCase } from './run.js';
import { requireSame } from './same-file.js';
import { shortSuite, suite } from './suite.js';

const execute = promisify(execFile);
const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));
const TSX = fileURLToPath(new URL('../../node_modules/.bin/tsx', import.meta.url));

let references: References;
beforeAll(() => {
  references = compileReferences(join(scratch(), 'programs'));
});

function workshop(): { shop: Workshop; outputs: string; clear: () => void } {
  const outputs = join(scratch(), 'outputs');
  const clear = (): void => {
    rmSync(outputs, { recursive: true, force: true });
    mkdirSync(outputs);
  };
  clear();
  const inputs = new InputStore(join(scratch(), 'inputs'));
  return { shop: { inputs, references, output: (name) => join(outputs, name) }, outputs, clear };
}

function run(one: Case, rounds: number) {
  const { shop, outputs, clear } = workshop();
  return runCase(one, shop, { rounds, outputs, clear, say: () => undefined });
}

describe('every case gives the right result, ours and what it is compared with', () => {
  const zstd = spawnSync('zstd', ['--version']).error === undefined;
  const cases = shortSuite().map((one) => [one.name, one] as const);
  test.for(cases)('%s', async ([name, one], { skip }) => {
    skip(name.includes('zstd') && !zstd, 'zstd is not installed');
    const { sizes, growth } = await run(one, 0);
    expect(sizes.length).toBe(one.sizes.length);
    expect(growth.length).toBe(one.sizes.length - 1);
  });
});

test('a result that is wrong is told, not timed', async () => {
  const [one] = shortSuite();
  const [size] = one?.sizes ?? [];
  if (one === undefined || size === undefined) throw new Error('no case');
  const wrong: Case = {
    ...one,
    sizes: [{ ...size, prepare: async (shop) => ({ ...(await size.prepare(shop)), check }) }],
  };
  const check = (): never => {
    throw new Error('this is wrong');
  };
  await expect(run(wrong, 1)).rejects.toThrow('this is wrong');
});

test('a program is measured from outside: time, peak, what it said when it failed', async () => {
  const grow = 'const b = Buffer.alloc(200 << 20, 1); setTimeout(() => b, 100)';
  const large = await measure(references.run, { command: [process.execPath, '-e', grow] });
  expect(large.seconds).toBeGreaterThan(0.1);
  expect(large.peakMiB).toBeGreaterThan(200);
  // Not the peak of the process that started it.
  const small = await measure(references.run, { command: ['true'] });
  expect(small.peakMiB).toBeLessThan(20);
  const input = { path: scratchFile('input', Buffer.from('passed over, read')), offset: 13 };
  const stdout = scratchFile('stdout');
  await measure(references.run, { command: ['cat'], input, stdout });
  expect(readFileSync(stdout, 'utf8')).toBe('read');
  const failing = { command: ['sh', '-c', 'echo why >&2; exit 3'] };
  await expect(measure(references.run, failing)).rejects.toThrow(/ended with 3: why/);
  await expect(measure(references.run, { command: ['no-such-program'] })).rejects.toThrow(/125/);
});

test('the C programs refuse what is no table', async () => {
  const beyond = Buffer.alloc(24);
  beyond.writeUInt32LE(2 ** 18, 0);
  beyond.writeUInt16LE(1, 4);
  const [input, output] = [scratchFile('beyond', beyond), scratchFile('out')];
  for (const command of [
    [references.reframe, 'section', '22', input, output],
    [references.fold, '22', input],
  ]) {
    await expect(measure(references.run, { command })).rejects.toThrow(/beyond the table/);
  }
  const cut = scratchFile('cut', beyond.subarray(0, 20));
  const command = [references.reframe, 'section', '30', cut, output];
  await expect(measure(references.run, { command })).rejects.toThrow(/ends within blocks/);
  const walk = { command: [references.walk, input, output] };
  await expect(measure(references.run, walk)).rejects.toThrow(/no migration stream/);
});

function written(write: (out: FileWriter) => void): Buffer {
  const path = scratchFile('written');
  const out = new FileWriter(path);
  write(out);
  const length = out.position;
  out.close();
  const bytes = readFileSync(path);
  expect(bytes.length).toBe(length);
  return bytes;
}

describe.each<[Runs, number]>([
  ['single', 1],
  ['short', 8],
  ['dense', 65535],
])('generated tables, %s', (runs, longest) => {
  test.each([
    [22, 20_000],
    [27, 100_000],
    [34, 3000],
  ])('order %i cover every slot once, with %i entries', (order, entries) => {
    const shape: HptShape = { order, entries, runs };
    const blocks = plainKernel(
      written((out) => writeKernel(out, [shape])),
      true,
    );
    let [next, valid, gaps, tooLong, withoutV] = [0, 0, 0, 0, 0];
    for (const { index, entries: bytes, nInvalid } of blocks) {
      const n = bytes.length / 16;
      gaps += Number(index !== next);
      tooLong += Number(n > longest);
      for (let i = 0; i < n; i++) withoutV += 1 - ((bytes[i * 16 + 7] ?? 0) & 1);
      next += n + nInvalid;
      valid += n;
    }
    expect([gaps, tooLong, withoutV]).toEqual([0, 0, 0]);
    expect(next).toBe(2 ** (order - 4));
    expect(valid).toBe(entries);
    const section = plainSection(written((out) => writeSection(out, shape)));
    expect(section.order).toBe(order);
    expect(section.parts.length).toBe(1);
    expect(plainEncode(section.parts[0] ?? [], true).equals(plainEncode(blocks, true))).toBe(true);
  });
});

test('generated memory is half zero, whatever its size', () => {
  for (const pages of [32, 4096, 2 ** 20]) {
    let zero = 0;
    for (let page = 0; page < pages; page++) zero += Number(isZeroPage(page));
    expect(zero).toBe(pages / 2);
  }
});

test('inputs are made once, and removed with what was half made', () => {
  const store = new InputStore(join(scratch(), 'store'));
  const path = store.make('one', 4, (out) => out.put(Buffer.from('once')));
  store.make('one', 4, () => expect.fail('it is there'));
  expect(readFileSync(path, 'utf8')).toBe('once');
  expect(() => store.make('big', 2 ** 62, () => undefined)).toThrow(/are free: name another/);
  writeFileSync(`${path}.part`, '');
  store.clear();
  expect(() => readFileSync(path)).toThrow('ENOENT');
  expect(() => readFileSync(`${path}.part`)).toThrow('ENOENT');
});

test('space is asked for before it is used', () => {
  requireSpace(scratch(), 0, 'nothing');
  expect(() => requireSpace(scratch(), 2 ** 60, 'a file')).toThrow(
    /a file takes 1073741824\.3 GiB/,
  );
});

test('files are compared to their ends', () => {
  const [a, b] = [Buffer.alloc(3_000_000, 1), Buffer.alloc(3_000_000, 1)];
  const one = scratchFile('one', a);
  requireSame(one, scratchFile('other', b));
  b[2_999_999] = 2;
  expect(() => requireSame(one, scratchFile('other', b))).toThrow(/byte 2999999 differs/);
  expect(() => requireSame(one, scratchFile('short', b.subarray(1)))).toThrow(/3000000 bytes/);
});

test('medians and tables', async () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([5])]).toEqual([2, 2.5, 5]);
  const [one] = shortSuite();
  if (one === undefined) throw new Error('no case');
  const { sizes } = await run(one, 1);
  const [result] = sizes;
  if (result === undefined) throw new Error('no result');
  expect(result.ours.seconds).toHaveLength(4);
  const [other] = result.against;
  expect(other?.ratio).toBeCloseTo(result.ours.median / (other?.median ?? 0));
  const told = (limit: number): string =>
    ratioTable([{ ...result, against: result.against.map((each) => ({ ...each, limit })) }]);
  expect(told(1000)).toMatch(/start \(--version\).*node -e 0.* ok /);
  expect(told(0.001)).toMatch(/start \(--version\).*node -e 0.* OVER /);
  const step = { case: 'a case', from: '1 GiB', to: '2 GiB', limit: 2.1, peakLimited: true };
  expect(growthTable([{ ...step, ratio: 2, peakGrowth: 1 }])).not.toContain('OVER');
  expect(growthTable([{ ...step, ratio: 2.2, peakGrowth: 1 }])).toContain('OVER');
  expect(growthTable([{ ...step, ratio: 2, peakGrowth: 100 }])).toContain('OVER');
});

test('the command: a filter, JSON, and what is wrong', async () => {
  const dir = join(scratch(), 'bench');
  const bench = (...args: string[]) => execute(TSX, [MAIN, '--dir', dir, ...args]);
  const { stdout } = await bench('--short', '--rounds', '1', '--filter', 'start', '--json');
  const report = JSON.parse(stdout);
  expect(report.wrong).toEqual([]);
  expect(report.results.map((result: { case: string }) => result.case)).toEqual([
    'start (--version)',
  ]);
  const listed = await bench('--list', '--filter', 'mapped');
  expect(listed.stdout.split('\n').filter(Boolean)).toEqual(
    suite()
      .map(({ name }) => name)
      .filter((name) => name.includes('mapped')),
  );
  await expect(bench('--filter', 'no such case')).rejects.toThrow(/no case has that/);
  await expect(bench('--rounds', 'many')).rejects.toThrow(/--rounds takes whole numbers/);
});
