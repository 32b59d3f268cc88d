import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { PassedBlocks } from '../src/addon/load.js';
import { type ByteSource, openFile, SliceSource } from '../src/bytes/source.js';
import { type ConvertOptions, type ConvertResult, convert } from '../src/convert.js';
import { SpaprHtabError } from '../src/errors.js';
import { addon, COPIES, MIB, useAddon } from './bytes/support.js';
import { refusal } from './container/support.js';
import {
  blocksOf,
  counted,
  kernelFile,
  ORDER,
  SHAPE_NAMES,
  type Shape,
  sectionFile,
} from './helpers/blocks.js';
import { scratchFile } from './helpers/sources.js';
import {
  configuration,
  end,
  full,
  header,
  htabPart,
  start,
  part as streamPart,
  tail,
  u32,
} from './helpers/stream.js';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

let folder = '';
let output = '';
beforeEach(() => {
  folder = scratchFile('folder');
  mkdirSync(folder);
  output = join(folder, 'out');
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

interface Outcome {
  readonly result?: ConvertResult;
  readonly bytes?: Buffer;
  readonly error?: Record<string, unknown>;
}

type Input = string | (() => Promise<ByteSource>);

async function outcome(input: Input, options: ConvertOptions): Promise<Outcome> {
  try {
    const source = typeof input === 'string' ? input : await input();
    const result = await convert(source, output, options);
    return { result, bytes: readFileSync(output) };
  } catch (error) {
    if (!(error instanceof SpaprHtabError)) throw error;
    return { error: error.toJSON() };
  } finally {
    rmSync(output, { force: true });
    expect(readdirSync(folder)).toEqual([]);
  }
}

/** What the addon is asked to pass, and how far it got. */
function spied(): { passed: { from: number; result: PassedBlocks }[] } {
  const loaded = addon();
  const { passBlocks } = loaded;
  if (passBlocks === undefined) throw new Error('not there');
  const passed: { from: number; result: PassedBlocks }[] = [];
  vi.spyOn(loaded, 'passBlocks').mockImplementation(async (...args) => {
    const result = await passBlocks(...args);
    passed.push({ from: args[1], result });
    return result;
  });
  return { passed };
}

function requireSame(one: Outcome, other: Outcome): void {
  expect(one.error).toEqual(other.error);
  expect(one.result).toEqual(other.result);
  expect(one.bytes?.equals(other.bytes ?? Buffer.alloc(0))).toBe(other.bytes && true);
}

/** Converts with the addon, which must have taken blocks, and without: the same comes out. */
async function same(input: Input, options: ConvertOptions) {
  useAddon(true);
  const { passed } = spied();
  const one = await outcome(input, options);
  vi.restoreAllMocks();
  useAddon(false);
  const other = await outcome(input, options);
  useAddon(true);
  requireSame(one, other);
  const taken = passed.reduce((sum, { result }) => sum + result.bytes, 0);
  return { ...one, passed, taken };
}

const KERNEL = { from: 'kernel', order: ORDER } as const;
const INPUTS = [
  ['kernel, little-endian', { ...KERNEL, byteOrder: 'little' }],
  ['kernel, big-endian', { ...KERNEL, byteOrder: 'big' }],
  ['section, big-endian', { from: 'section', byteOrder: 'big' }],
  ['section, little-endian', { from: 'section', byteOrder: 'little' }],
] as const;
const OUTPUTS = [
  { to: 'kernel', outputByteOrder: 'little' },
  { to: 'kernel', outputByteOrder: 'big' },
  { to: 'section' },
] as const;

/** `byteOrder` is of kernel input only; sections tell theirs. */
function optionsOf(input: (typeof INPUTS)[number][1], out: (typeof OUTPUTS)[number]) {
  const { byteOrder, ...rest } = input;
  return input.from === 'kernel' ? { ...rest, byteOrder, ...out } : { ...rest, ...out };
}

function fileOf(
  { from, byteOrder }: (typeof INPUTS)[number][1],
  parts: readonly Buffer[],
  marked = false,
): Buffer {
  const little = byteOrder === 'little';
  return from === 'kernel' ? kernelFile(parts, little, marked) : sectionFile(parts, little);
}

function expectedOf(out: (typeof OUTPUTS)[number], parts: readonly Buffer[], marked = false) {
  if (out.to === 'section') return sectionFile(parts, false);
  return kernelFile(parts, out.outputByteOrder === 'little', marked);
}

describe.runIf(COPIES)('blocks go from file to file', () => {
  const combinations = INPUTS.flatMap(([name, input]) =>
    OUTPUTS.map((out) => [name, `${Object.values(out)}`, input, out] as const),
  );

  test.each(combinations)('%s, to %s', async (_, __, input, out) => {
    for (const shape of SHAPE_NAMES) {
      const part = blocksOf(shape, 2.5 * MIB);
      const path = scratchFile('in', fileOf(input, [part]));
      const { bytes, result, taken } = await same(path, optionsOf(input, out));
      expect(bytes?.equals(expectedOf(out, [part])), shape).toBe(true);
      expect(result).toMatchObject({ ...counted(part), parts: 1, order: ORDER });
      expect(taken, shape).toBeGreaterThan(MIB);
      rmSync(path);
    }
  });

  test.each(combinations)('%s, to %s: several parts', async (_, __, input, out) => {
    const parts = [
      blocksOf('short runs', 1.6 * MIB, 1),
      Buffer.alloc(0),
      blocksOf('dense blocks', 2 * MIB, 2),
      blocksOf('one entry a block', 5000, 3),
      blocksOf('of every kind', 2 * MIB, 4),
    ];
    const path = scratchFile('in', fileOf(input, parts, true));
    for (const markParts of [false, true]) {
      const { bytes, result, passed } = await same(path, { ...optionsOf(input, out), markParts });
      expect(bytes?.equals(expectedOf(out, parts, markParts))).toBe(true);
      expect(result?.parts).toBe(parts.length);
      expect(passed.filter(({ result }) => result.bytes > 0).length).toBeGreaterThanOrEqual(3);
    }
    rmSync(path);
  });

  test('out of a snapshot', async () => {
    const parts = [
      blocksOf('one entry a block', 2 * MIB, 1),
      blocksOf('of every kind', 2 * MIB, 2),
    ];
    const [one, other] = parts.map((part) => htabPart(part)) as [Buffer, Buffer];
    const framing = { footers: true };
    const stream = Buffer.concat([
      header(),
      configuration('pseries-7.2'),
      start(5, 'spapr/htab', 1, u32(ORDER), framing),
      streamPart(5, one, framing),
      end(5, other, framing),
      full(0, 'timer', 2, Buffer.alloc(24, 0x11), framing),
      tail([{ name: 'timer', size: 24 }]),
    ]);
    const path = scratchFile('snapshot', stream);
    for (const out of OUTPUTS) {
      const { bytes, result, passed } = await same(path, out);
      expect(bytes?.equals(expectedOf(out, parts))).toBe(true);
      expect(result).toMatchObject({ from: 'snapshot', parts: 2 });
      expect(passed.filter(({ result }) => result.bytes > MIB / 2).length).toBe(2);
    }
  });

  test('kernel to kernel where nothing says the order', async () => {
    // Of any table: slots up to the last that a header can name.
    const part = blocksOf('one entry a block', 2 * MIB);
    part.fill(0xff, part.length - 24, part.length - 20);
    for (const byteOrder of ['little', 'big'] as const) {
      const little = byteOrder === 'little';
      const path = scratchFile('in', kernelFile([part], little));
      const options = { from: 'kernel', byteOrder, to: 'kernel' } as const;
      const { bytes, result, taken } = await same(path, { ...options, outputByteOrder: 'big' });
      expect(bytes?.equals(part)).toBe(true);
      expect(result?.order).toBeUndefined();
      expect(taken).toBeGreaterThan(MIB / 2);
    }
  });

  test('from any place in a file, so that headers lie across pieces in every way', async () => {
    const part = blocksOf('one entry a block', 3.2 * MIB);
    const file = kernelFile([part], true);
    const options = {
      ...KERNEL,
      byteOrder: 'little',
      to: 'kernel',
      outputByteOrder: 'big',
    } as const;
    for (const offset of [1, 2, 3, 5, 7, 12, 4095, 70_001]) {
      const path = scratchFile('in', Buffer.concat([Buffer.alloc(offset, 0xee), file]));
      const whole = await same(path, { ...options, offset });
      expect(whole.bytes?.equals(part)).toBe(true);
      expect(whole.taken).toBeGreaterThan(2 * MIB);
      const length = part.length - 24 * 1000;
      const slice = await same(
        async () => new SliceSource(await openFile(path), offset, length),
        options,
      );
      expect(slice.bytes?.equals(part.subarray(0, length))).toBe(true);
      expect(slice.taken).toBeGreaterThan(2 * MIB);
      rmSync(path);
    }
  });
});

/** Where the addon begins with a file, and where each of its pieces ends: headers cut by 8 bytes less. */
async function edgesOf(path: string, options: ConvertOptions): Promise<number[]> {
  const { passed, error } = await same(path, options);
  expect(error).toBeUndefined();
  const begin = passed[0]?.from ?? Number.NaN;
  expect(begin).toBeGreaterThan(0);
  return [begin, begin + MIB - ((begin + 2048) % 4096)];
}

describe.runIf(COPIES)('blocks that stop it', () => {
  const part = blocksOf('one entry a block', 2.6 * MIB);
  const options = { ...KERNEL, byteOrder: 'big', to: 'kernel' } as const;
  const near = (edges: number[]): number[] =>
    [...edges, part.length].flatMap((edge) => {
      const at = Math.floor(edge / 24) * 24;
      return [-48, -24, 0, 24].map((far) => at + far).filter((at) => at < part.length);
    });

  test('one beyond the table, at any place', async () => {
    const path = scratchFile('in', part);
    for (const at of near(await edgesOf(path, options))) {
      const bytes = Buffer.from(part);
      bytes.writeUInt32BE(2 ** (ORDER - 4), at);
      writeFileSync(path, bytes);
      const { error } = await same(path, options);
      expect(error).toMatchObject({ code: 'E_BLOCK_RANGE', offset: at });
    }
  });

  test('an end mark, at any place', async () => {
    const path = scratchFile('in', part);
    for (const at of near(await edgesOf(path, options))) {
      const parts = [part.subarray(0, at), part.subarray(at)];
      const marked = Buffer.concat([part.subarray(0, at), Buffer.alloc(8), part.subarray(at)]);
      writeFileSync(path, marked);
      const { bytes, result, taken } = await same(path, { ...options, to: 'section' });
      expect(bytes?.equals(sectionFile(parts, false))).toBe(true);
      expect(result?.parts).toBe(2);
      // Where the mark is not in front of where it begins.
      expect(taken).toBeGreaterThan(0);
    }
  });
});

describe.runIf(COPIES)('files that are cut off', () => {
  test.each(['kernel', 'section'] as const)('%s, at every byte of a block', async (from) => {
    const last = blocksOf('one entry a block', 48);
    const part = Buffer.concat([blocksOf('short runs', 1.5 * MIB), last]);
    const file = from === 'kernel' ? part : sectionFile([part], false);
    const options =
      from === 'kernel'
        ? ({ ...KERNEL, byteOrder: 'big', to: 'kernel' } as const)
        : ({ from, to: 'kernel' } as const);
    const path = scratchFile('in', file);
    const ends = new Set<string>();
    for (let length = file.length; length > file.length - 36; length--) {
      truncateSync(path, length);
      const { error, taken } = await same(path, options);
      expect(taken).toBeGreaterThan(MIB / 4);
      ends.add(error === undefined ? 'whole' : `${error.code} ${error.offset}`);
    }
    expect(ends).toContain('whole');
    expect(ends.size).toBe(from === 'kernel' ? 3 : 4);
  });

  test('inside a dense block, in any of its pieces', async () => {
    const part = blocksOf('dense blocks', 4 * MIB);
    const size = 8 + 16 * 65_535;
    const path = scratchFile('in', part);
    const options = { ...KERNEL, byteOrder: 'big', to: 'kernel' } as const;
    for (const into of [size - 1, size / 2, 4096, 9, 8, 7, 1, 0]) {
      truncateSync(path, 2 * size + Math.floor(into));
      const { error, result, taken } = await same(path, options);
      expect(taken).toBeGreaterThan(0);
      if (into === 0) expect(result?.blocks).toBe(2);
      else expect(error).toMatchObject({ code: 'E_TRUNCATED', offset: 2 * size });
    }
  });
});

describe.runIf(COPIES)('anything at all', () => {
  const segment = fc.record({
    shape: fc.constantFrom<Shape>(...SHAPE_NAMES),
    bytes: fc.oneof(fc.nat(100_000), fc.integer({ min: 500_000, max: 1_200_000 })),
    seed: fc.nat(),
  });
  const plan = fc.record({
    parts: fc.array(fc.array(segment, { minLength: 1, maxLength: 3 }), {
      minLength: 1,
      maxLength: 3,
    }),
    input: fc.constantFrom(...INPUTS.map(([, input]) => input)),
    out: fc.constantFrom(...OUTPUTS),
    markParts: fc.boolean(),
    offset: fc.oneof(fc.constant(0), fc.nat(10_000)),
    damage: fc.option(
      fc.record({
        /** How far, of the whole. */
        at: fc.double({ min: 0.5, max: 1, noNaN: true, maxExcluded: true }),
        bytes: fc.uint8Array({ maxLength: 12 }),
        cut: fc.boolean(),
      }),
    ),
  });

  test('gives the same with the addon and without', async () => {
    const path = scratchFile('in');
    let passes = 0;
    let failures = 0;
    await fc.assert(
      fc.asyncProperty(plan, async ({ parts, input, out, markParts, offset, damage }) => {
        const all = parts.map((segments) =>
          Buffer.concat(segments.map(({ shape, bytes, seed }) => blocksOf(shape, bytes, seed))),
        );
        const file = fileOf(input, all, true);
        const head = Buffer.alloc(offset, 0xee);
        const at = Math.floor((damage?.at ?? 0) * file.length);
        if (damage) file.set(damage.bytes.subarray(0, file.length - at), at);
        const end = damage?.cut ? at + damage.bytes.length : file.length;
        writeFileSync(path, Buffer.concat([head, file.subarray(0, end)]));
        const { taken, bytes, error } = await same(path, {
          ...optionsOf(input, out),
          markParts,
          offset,
        });
        if (taken > 0) passes++;
        if (error) failures++;
        if (!damage) expect(bytes?.equals(expectedOf(out, all, markParts))).toBe(true);
      }),
      { numRuns: 25 },
    );
    expect(passes).toBeGreaterThan(5);
    expect(failures).toBeGreaterThan(0);
  });
});

describe.runIf(COPIES)('while blocks pass', () => {
  const options = { ...KERNEL, byteOrder: 'big', to: 'kernel', outputByteOrder: 'little' } as const;

  /** Lets something happen when the addon is asked for the first time, before it begins. */
  function before(happen: () => void): void {
    const loaded = addon();
    const { passBlocks } = loaded;
    if (passBlocks === undefined) throw new Error('not there');
    vi.spyOn(loaded, 'passBlocks').mockImplementationOnce((...args) => {
      happen();
      return passBlocks(...args);
    });
  }

  test.each(SHAPE_NAMES)('the file becomes shorter: %s', async (shape) => {
    const part = blocksOf(shape, 4 * MIB);
    const path = scratchFile('in', part);
    for (const length of [2 * MIB + 5, 2.5 * MIB, 3 * MIB + 1000]) {
      writeFileSync(path, part);
      before(() => truncateSync(path, length));
      const shorter = await outcome(path, options);
      // As of one that was as short from the beginning on.
      useAddon(false);
      const cut = await outcome(path, options);
      useAddon(true);
      requireSame(shorter, cut);
    }
  });

  test('the file becomes shorter than what was taken', async () => {
    const path = scratchFile('in', blocksOf('one entry a block', 4 * MIB));
    before(() => truncateSync(path, 0));
    // What is in memory is a part of a block.
    const { error } = await outcome(path, options);
    expect(error).toMatchObject({ code: 'E_TRUNCATED' });
  });

  test('an abort: no output', async () => {
    const path = scratchFile('in', blocksOf('one entry a block', 4 * MIB));
    const controller = new AbortController();
    before(() => controller.abort(new Error('enough')));
    const { error } = await outcome(path, { ...options, signal: controller.signal });
    expect(error).toMatchObject({ code: 'E_ABORTED' });
  });

  test('the source is closed before: an error that says so', async () => {
    const path = scratchFile('in', blocksOf('one entry a block', 4 * MIB));
    const { passed } = spied();
    for (const on of [true, false]) {
      useAddon(on);
      const source = await openFile(path);
      const onProgress = () => void source.close();
      const { error } = await outcome(async () => source, { ...options, onProgress });
      expect(error).toMatchObject({ code: 'E_IO', actual: 'EBADF' });
      expect(error?.message).toContain(path);
    }
    expect(passed).toEqual([]);
  });

  test('progress goes up to the end', async () => {
    const part = blocksOf('one entry a block', 4 * MIB);
    const path = scratchFile('in', part);
    const { passed } = spied();
    const positions: number[] = [];
    await outcome(path, { ...options, onProgress: ({ position }) => positions.push(position) });
    expect(passed.length).toBeGreaterThan(0);
    expect(positions).toEqual([...positions].sort((a, b) => a - b));
    expect(positions.at(-1)).toBe(part.length);
  });

  test.each(['with the addon', 'without'])('the output may not grow: %s', async (how) => {
    const path = scratchFile('in', blocksOf('one entry a block', 8 * MIB));
    // 2 or 4 MiB: the unit is the shell's.
    const limited = 'ulimit -f 4096; exec "$0" "$@"';
    const args = [
      'convert',
      path,
      '-o',
      output,
      '--from',
      'kernel',
      '--from-endian',
      'big',
      '--to',
      'kernel',
    ];
    const env = { ...process.env, ...(how === 'without' && { SPAPR_HTAB_NO_ADDON: '1' }) };
    const command = ['-c', limited, process.execPath, MAIN, ...args];
    const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
      execFile('sh', command, { env }, (error, _, stderr) =>
        resolve({ code: error?.code, stderr }),
      );
    });
    expect(stderr).toMatch(/cannot write .*out: the file would be larger than.*\[E_IO\]/);
    expect(code).toBe(1);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('a write that fails: what was asked for, by name', async () => {
    const path = scratchFile('in', blocksOf('one entry a block', 4 * MIB));
    const loaded = addon();
    for (const [reading, words] of [
      [false, `cannot write ${output}: no space left`],
      [true, `cannot read ${path}: no space left`],
    ] as const) {
      const failed = { bytes: 0, blocks: 0, valid: 0, errno: 28, reading };
      vi.spyOn(loaded, 'passBlocks').mockResolvedValueOnce(failed);
      const error = await refusal(convert(path, output, options));
      expect(error).toMatchObject({ code: 'E_IO', actual: 'ENOSPC' });
      expect(error.message).toContain(words);
      expect(existsSync(output)).toBe(false);
    }
  });
});
