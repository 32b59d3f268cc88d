import { appendFileSync, closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { abortable } from '../../src/bytes/abort.js';
import { ByteReader, LARGEST_ENSURE } from '../../src/bytes/reader.js';
import { BufferSource, type ByteSource, openFile, SliceSource } from '../../src/bytes/source.js';
import { ioError } from '../../src/errors.js';
import { pipe, readAll, refusal } from '../container/support.js';
import { random, scratchFile } from '../helpers/sources.js';
import { MIB } from './support.js';

/** Nobody may be left with an error that comes when nobody waits any more. */
const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
beforeEach(() => void process.on('unhandledRejection', note));
afterEach(async () => {
  await turn();
  process.off('unhandledRejection', note);
  expect(unhandled.splice(0)).toEqual([]);
});

const ALL = ((): Buffer => {
  const words = new Uint32Array((6 * MIB) / 4);
  let state = 1;
  for (let at = 0; at < words.length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[at] = state;
  }
  return Buffer.from(words.buffer);
})();

interface Reading {
  readonly position: number;
  readonly target: Uint8Array;
  /** Fills the target, or fails. */
  readonly settle: (error?: Error) => void;
}

/** A source whose reads may overlap, and end when the test says so. */
class Scripted implements ByteSource {
  readonly name = 'scripted';
  readonly seekable = true;
  readonly concurrent = true;
  readonly size: number;
  readonly readings: Reading[] = [];
  readonly memory = new Set<ArrayBufferLike>();
  /** Asked for each read once it is under way. */
  onRead: (reading: Reading) => void = () => undefined;

  constructor(
    readonly bytes: Uint8Array,
    size?: number,
    /** Bytes of each read at most. */
    readonly most: () => number = () => Number.POSITIVE_INFINITY,
  ) {
    this.size = size ?? bytes.length;
  }

  read(target: Uint8Array, position: number): Promise<number> {
    this.memory.add(target.buffer);
    return new Promise((resolve, reject) => {
      const settle = (error?: Error): void => {
        if (error !== undefined) reject(error);
        const length = Math.min(target.length, Math.max(1, this.most()));
        const part = this.bytes.subarray(position, position + length);
        target.set(part);
        resolve(part.length);
      };
      const reading = { position, target, settle };
      this.readings.push(reading);
      this.onRead(reading);
    });
  }

  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** Reads end in any order, some soon and some late, and give what they like. */
function unruly(bytes: Uint8Array, seed: number): ByteSource {
  const next = random(seed);
  const most = () => (next() < 0.7 ? Number.POSITIVE_INFINITY : Math.floor(next() * 300_000));
  const source = new Scripted(bytes, undefined, most);
  source.onRead = ({ settle }) => {
    let turns = Math.floor(next() * 6);
    const wait = (): void => {
      if (turns-- > 0) setImmediate(wait);
      else settle();
    };
    wait();
  };
  return source;
}

function shortReads(bytes: Uint8Array, seed: number): ByteSource {
  const next = random(seed);
  const source = new BufferSource(bytes);
  const { read } = source;
  source.read = (target, position) =>
    read.call(source, target.subarray(0, 1 + Math.floor(next() * 100_000)), position);
  return source;
}

/** One file for all: what is behind the bytes is no part of them. */
function fileOf(bytes: Uint8Array, before = 0): string {
  const path = scratchFile('in');
  const fd = openSync(path, 'w');
  if (before > 0) writeSync(fd, Buffer.alloc(before, 0xee));
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
  closeSync(fd);
  return path;
}

type Open = (bytes: Uint8Array, seed: number) => Promise<ByteSource> | ByteSource;
const KINDS: readonly [string, Open][] = [
  ['a file', (bytes) => openFile(fileOf(bytes))],
  [
    'a slice of a file',
    async (bytes, seed) => {
      const start = 1 + (seed % 10_000);
      const path = fileOf(bytes, start);
      appendFileSync(path, Buffer.alloc(seed % 5000, 0xdd));
      return new SliceSource(await openFile(path), start, bytes.length);
    },
  ],
  ['memory', (bytes) => new BufferSource(bytes)],
  ['what gives less than was asked for', shortReads],
  ['what answers in any order', unruly],
  ['a slice of that', (bytes, seed) => new SliceSource(unruly(bytes, seed), 0)],
  ['a pipe', (bytes, seed) => pipe(bytes, 1000 + (seed % 200_000))],
];

const length = fc.oneof(
  fc.constantFrom(0, 1, 2, 4095, 4096, 4097, 8191, MIB - 1, MIB, MIB + 1),
  fc.constantFrom(2 * MIB - 1, 2 * MIB, 3 * MIB - 4096, 3 * MIB, 3 * MIB + 1),
  fc.nat(6 * MIB),
);
const amount = fc.oneof(
  fc.nat(40),
  fc.constantFrom(4096, MIB - 4096, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, LARGEST_ENSURE),
  fc.nat(LARGEST_ENSURE),
);
const step = fc.oneof(
  fc.record({ type: fc.constantFrom('ensure', 'tryEnsure', 'take', 'skip', 'pass'), n: amount }),
  fc.record({ type: fc.constant('skip'), n: fc.nat(5 * MIB) }),
  fc.record({ type: fc.constantFrom('seek', 'tap', 'untap', 'end'), n: fc.nat(6 * MIB) }),
  /** From where it is. */
  fc.record({ type: fc.constant('near'), n: fc.integer({ min: -MIB, max: MIB }) }),
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** Does the same with a reader and with a plain array. */
class Compared {
  at: number;
  #tapped: Buffer[] | undefined;
  #expected: Buffer[] = [];

  constructor(
    readonly reader: ByteReader,
    readonly bytes: Buffer,
    start: number,
  ) {
    this.at = start;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  /** False where the end was met by what cannot go on there. */
  async do({ type, n }: Step): Promise<boolean> {
    const { reader } = this;
    switch (type) {
      case 'ensure':
        if (n <= this.left) await reader.ensure(n, 'it');
        else await this.#refused(reader.ensure(n, 'it'));
        break;
      case 'tryEnsure':
        expect(await reader.tryEnsure(n)).toBe(n <= this.left);
        break;
      case 'take': {
        const count = Math.min(n, this.left);
        await reader.ensure(count, 'it');
        const from = this.#advance(count);
        expect(this.bytes.subarray(from, this.at).equals(reader.take(count))).toBe(true);
        break;
      }
      case 'skip':
      case 'pass':
        return this.#skip(type, n);
      case 'end':
        expect(await reader.atEnd()).toBe(this.left === 0);
        break;
      case 'tap':
        if (this.#tapped === undefined) this.#tap();
        break;
      case 'untap':
        this.untap();
        break;
      default:
        this.#seek(type === 'seek' ? n : this.at + n);
    }
    return true;
  }

  async #refused(promise: Promise<void>): Promise<void> {
    const error = await refusal(promise);
    expect(error).toMatchObject({ code: 'E_TRUNCATED', offset: this.at });
    expect(error.actual).toBe(`${this.left}`);
  }

  async #skip(type: string, n: number): Promise<boolean> {
    const { reader } = this;
    const pass = async (): Promise<void> => {
      for await (const _ of reader.passOver(n, 'it'));
    };
    const work = type === 'skip' ? reader.skip(n, 'it') : pass();
    if (n <= this.left) {
      await work;
      this.#advance(n);
      return true;
    }
    expect((await refusal(work)).code).toBe('E_TRUNCATED');
    // Some of it may be passed: of what is not known, and of what is passed in steps.
    const moved = reader.offset - this.at;
    expect(moved === 0 || moved <= this.left).toBe(true);
    this.#advance(moved);
    return reader.source.seekable;
  }

  #seek(to: number): void {
    if (!this.reader.source.seekable) return;
    this.at = Math.min(this.bytes.length, Math.max(0, to));
    this.reader.seek(this.at);
  }

  #advance(n: number): number {
    const from = this.at;
    this.at += n;
    if (this.#tapped) this.#expected.push(this.bytes.subarray(from, this.at));
    return from;
  }

  #tap(): void {
    const tapped: Buffer[] = [];
    this.#tapped = tapped;
    this.#expected = [];
    this.reader.tap((bytes) => tapped.push(Buffer.from(bytes)));
  }

  untap(): void {
    this.reader.untap();
    if (this.#tapped === undefined) return;
    expect(Buffer.concat(this.#tapped).equals(Buffer.concat(this.#expected))).toBe(true);
    this.#tapped = undefined;
  }

  check(): void {
    const { reader, at } = this;
    expect(reader.offset).toBe(at);
    expect(reader.available).toBe(reader.end - reader.pos);
    const window = reader.buffer.subarray(reader.pos, reader.end);
    expect(this.bytes.subarray(at, at + window.length).equals(window)).toBe(true);
    if (window.length >= 4)
      expect(reader.view.getUint32(reader.pos)).toBe(this.bytes.readUInt32BE(at));
  }
}

describe('any steps give what a plain array gives', () => {
  test.each(KINDS)('from %s', async (_, open) => {
    await fc.assert(
      fc.asyncProperty(
        length,
        fc.oneof(fc.constant(0), length),
        fc.nat(2 ** 31 - 1),
        fc.array(step, { maxLength: 25 }),
        async (size, from, seed, steps) => {
          const bytes = ALL.subarray(0, size);
          await using source = await open(bytes, seed);
          const start = source.seekable ? Math.min(from, size) : 0;
          const compared = new Compared(new ByteReader(source, { start }), bytes, start);
          compared.check();
          for (const step of steps) {
            if (!(await compared.do(step))) break;
            compared.check();
          }
          compared.untap();
        },
      ),
      { numRuns: 100 },
    );
  });

  test.each(KINDS)('all of it, in order: %s', async (_, open) => {
    const bytes = ALL.subarray(0, 5 * MIB + 77);
    await using source = await open(bytes, 12_345);
    const reader = new ByteReader(source);
    const pieces: Uint8Array[] = [];
    while (!(await reader.atEnd())) pieces.push(reader.take(Math.min(reader.available, 333_333)));
    expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
    expect(reader.offset).toBe(bytes.length);
  });
});

describe('a file that changes while it is read', () => {
  /** Everything that is left. */
  async function rest(reader: ByteReader): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    while (!(await reader.atEnd())) pieces.push(reader.take(reader.available));
    return Buffer.concat(pieces);
  }

  test('becomes shorter: beyond what is read ahead, and within', async () => {
    const path = fileOf(ALL);
    for (const length of [5 * MIB + 3, 4.5 * MIB, 1_200_001, 10, 0]) {
      truncateSync(path, 0);
      appendFileSync(path, ALL);
      await using source = await openFile(path);
      const reader = new ByteReader(source);
      await reader.ensure(MIB + 1, 'it');
      truncateSync(path, length);
      const bytes = await rest(reader);
      expect(bytes.equals(ALL.subarray(0, bytes.length))).toBe(true);
      // What was read before is there.
      expect(bytes.length).toBeGreaterThanOrEqual(Math.max(length, MIB + 1));
      expect(bytes.length).toBeLessThanOrEqual(Math.max(length, 4 * MIB));
      expect((await refusal(reader.ensure(1, 'it'))).offset).toBe(bytes.length);
    }
  });

  test.each([10, 4096, MIB - 1, 2 * MIB, 3 * MIB + 1])('becomes longer: %i bytes', async (size) => {
    const path = fileOf(ALL.subarray(0, size));
    await using source = await openFile(path);
    const reader = new ByteReader(source);
    await reader.tryEnsure(1);
    const first = await rest(reader);
    expect(first.equals(ALL.subarray(0, size))).toBe(true);
    appendFileSync(path, ALL.subarray(size));
    const bytes = Buffer.concat([first, await rest(reader)]);
    expect(bytes.equals(await readAll(source))).toBe(true);
  });
});

describe('reads that fail', () => {
  const eio = (): Error => ioError(Object.assign(new Error(), { code: 'EIO' }), 'read', 'it');

  test.each([0, 1, 2, 3, 5])('in piece %i: when that is reached, not before', async (piece) => {
    const source = new Scripted(ALL);
    const bad = piece * MIB;
    const inside = ({ position, target }: Reading) =>
      position < bad + MIB && position + target.length > bad;
    // Last to first: a failure may come before what is in front of it.
    source.onRead = (reading) => {
      if (inside(reading)) reading.settle(eio());
      else setImmediate(reading.settle);
    };
    const reader = new ByteReader(source);
    let error: unknown;
    while (error === undefined) {
      try {
        await reader.ensure(1, 'it');
        reader.pos = reader.end;
      } catch (caught) {
        error = caught;
      }
    }
    expect(error).toMatchObject({ code: 'E_IO', actual: 'EIO' });
    // Reads of a piece begin with it, or with a page of it.
    expect(reader.offset).toBeLessThanOrEqual(bad);
    expect(reader.offset).toBeGreaterThan(bad - MIB);
    // It can be asked again, and elsewhere.
    expect(await refusal(reader.ensure(1, 'it'))).toMatchObject({ actual: 'EIO' });
    source.onRead = ({ settle }) => settle();
    await reader.ensure(MIB, 'it');
    expect(ALL.subarray(reader.offset).indexOf(reader.take(MIB))).toBe(0);
    reader.seek(4 * MIB + 5);
    await reader.ensure(MIB, 'it');
    expect(ALL.subarray(4 * MIB + 5).indexOf(reader.take(MIB))).toBe(0);
  });

  test('of a reader that was dropped, or went elsewhere', async () => {
    const source = new Scripted(ALL);
    source.onRead = ({ position, settle }) => {
      if (position < 2 * MIB) settle();
    };
    const reader = new ByteReader(source);
    await reader.ensure(MIB + 1, 'it');
    const ahead = source.readings.filter(({ position }) => position >= 2 * MIB);
    expect(ahead.length).toBeGreaterThan(0);
    reader.seek(5);
    await reader.ensure(10, 'it');
    for (const { settle } of ahead) settle(eio());
    await turn();
  });

  test('of a file that is closed meanwhile', async () => {
    const path = fileOf(ALL);
    for (let turns = 0; turns < 10; turns++) {
      const source = await openFile(path);
      const reader = new ByteReader(source);
      await reader.ensure(MIB + 1, 'it');
      const closing = source.close();
      const all = async (): Promise<void> => {
        for (;;) {
          await reader.ensure(1, 'it');
          reader.pos = reader.end;
        }
      };
      expect(await refusal(all())).toMatchObject({ code: 'E_IO', actual: 'EBADF' });
      await closing;
    }
  });
});

describe('an abort', () => {
  test.each([0, 1, 3])('while reads are under way, after %i of them', async (done) => {
    const source = new Scripted(ALL);
    source.onRead = ({ settle }) => {
      if (source.readings.length <= done) settle();
    };
    const controller = new AbortController();
    const reader = new ByteReader(source, { signal: controller.signal });
    const all = async (): Promise<void> => {
      for (;;) {
        await reader.ensure(1, 'it');
        reader.pos = reader.end;
      }
    };
    const ended = refusal(all());
    while (source.readings.length <= done) await turn();
    controller.abort();
    expect(await ended).toMatchObject({ code: 'E_ABORTED' });
    for (const { settle } of source.readings) settle(new Error('too late'));
    expect(await refusal(reader.ensure(MIB, 'it'))).toMatchObject({ code: 'E_ABORTED' });
  });

  test('before the work: what that fails with later is nobody’s', async () => {
    const failing = Promise.reject(new Error('too late'));
    expect(() => abortable(failing, AbortSignal.abort())).toThrow(/aborted/);
    await turn();
  });
});

describe('reads of before', () => {
  test('do not show up where the reader went', async () => {
    const source = new Scripted(ALL);
    const place = 4 * MIB + 100;
    source.onRead = ({ position, settle }) => {
      if (position < 2 * MIB || position >= place) settle();
    };
    const reader = new ByteReader(source);
    await reader.ensure(MIB + 1, 'it');
    const late = source.readings.filter(({ position }) => position >= 2 * MIB);
    expect(late.length).toBe(2);
    reader.seek(place);
    // More than is left of the piece of memory that it has.
    await reader.ensure(1.5 * MIB, 'it');
    for (const { target } of late) target.fill(0xee);
    for (const { settle } of late) settle();
    await turn();
    expect(ALL.subarray(place, place + 1.5 * MIB).equals(reader.take(1.5 * MIB))).toBe(true);
  });

  test('take a bounded number of pieces of memory, whether they end or not', async () => {
    const size = 2 ** 40;
    for (const ending of [true, false]) {
      const source = new Scripted(Buffer.alloc(0), size);
      let wanted = 0;
      source.read = (target, position) => {
        source.memory.add(target.buffer);
        const needed = position < wanted + 1.5 * MIB;
        return needed || ending ? Promise.resolve(target.length) : new Promise(() => undefined);
      };
      const reader = new ByteReader(source);
      for (let turns = 0; turns < 200; turns++) {
        wanted = turns * 20 * MIB + turns;
        reader.seek(wanted);
        await reader.ensure(1.5 * MIB, 'it');
      }
      expect(source.memory.size).toBeLessThanOrEqual(6);
    }
  });

  test('of what may not be read twice at once are none', async () => {
    let open = 0;
    const source = new BufferSource(ALL);
    const read = source.read.bind(source);
    source.read = async (target, position) => {
      expect(++open).toBe(1);
      await turn();
      open--;
      return read(target, position);
    };
    const reader = new ByteReader(source);
    while (!(await reader.atEnd())) reader.pos = reader.end;
    expect(reader.offset).toBe(ALL.length);
  });
});
