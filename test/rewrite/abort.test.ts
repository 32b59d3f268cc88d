import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  BufferSource,
  convert,
  extractRam,
  IterableSource,
  type RewriteOptions,
  rewrite,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { fixture, load } from '../helpers/fixtures.js';
import { scratch } from '../helpers/sources.js';
import { refusal, rewritten } from './support.js';

const GUEST = load(fixture('containers/plain.mig.gz'));
const XML = '<domain></domain>';
const folder = (): string => mkdtempSync(join(scratch(), 'abort-'));

/** Programs that this process has started and that are not gone. */
function children(): string[] {
  return readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  );
}

/** Fires the signal when so many bytes were read. */
class Watched extends BufferSource {
  #left: number;

  constructor(
    bytes: Buffer,
    left: number,
    readonly fire: () => void,
  ) {
    super(bytes);
    this.#left = left;
  }

  override read(target: Uint8Array, position: number): Promise<number> {
    this.#left -= Math.max(0, Math.min(target.length, this.size - position));
    if (this.#left <= 0) this.fire();
    return super.read(target, position);
  }
}

const EDITS: [string, RewriteOptions][] = [
  ['a copy', {}],
  ['compact', { compact: true }],
  ['another HPT', { htab: new BufferSource(GUEST), machine: 'p' }],
  ['gzip', { compress: 'gzip' }],
  ['a program', { container: 'libvirt', xml: XML, compress: 'zstd' }],
];

describe.each(EDITS)('%s', (_, edit) => {
  test('is not begun when the signal has fired', async () => {
    const out = join(folder(), 'out');
    const signal = AbortSignal.abort(new Error('enough'));
    const error = await refusal(rewrite(new BufferSource(GUEST), out, { ...edit, signal }));
    expect(error).toMatchObject({ code: 'E_ABORTED', cause: new Error('enough') });
    expect(readdirSync(join(out, '..'))).toEqual([]);
  });

  // In the walk, at its end, and while it is written.
  test.each([0.3, 1, 1.5, 1.9])('is aborted %f of a file into it', async (share) => {
    const out = join(folder(), 'out');
    const controller = new AbortController();
    const { signal } = controller;
    const input = new Watched(GUEST, GUEST.length * share, () => controller.abort());
    const error = await refusal(rewrite(input, out, { ...edit, signal }));
    expect(error.code).toBe('E_ABORTED');
    expect(readdirSync(join(out, '..'))).toEqual([]);
    expect(children()).toEqual([]);
  });
});

/** Fires the signal in the read that gives the last byte of the file. */
class LastRead extends BufferSource {
  constructor(readonly fire: () => void) {
    super(GUEST);
  }

  override async read(target: Uint8Array, position: number): Promise<number> {
    const count = await super.read(target, position);
    if (count > 0 && position + count === this.size) this.fire();
    return count;
  }
}

test.each([
  ['convert', (input, out, signal) => convert(input, out, { to: 'kernel', signal })],
  ['extractRam', (input, out, signal) => extractRam(input, out, { signal })],
  ['rewrite', (input, out, signal) => rewrite(input, out, { signal })],
] satisfies [
  string,
  (input: BufferSource, out: string, signal: AbortSignal) => Promise<unknown>,
][])('aborted in the read of the last byte, %s leaves nothing', async (_, verb) => {
  const out = join(folder(), 'out');
  const controller = new AbortController();
  const input = new LastRead(() => controller.abort());
  expect((await refusal(verb(input, out, controller.signal))).code).toBe('E_ABORTED');
  expect(readdirSync(join(out, '..'))).toEqual([]);
});

test('a program that decompresses is gone too', async () => {
  const packed = (await rewritten(GUEST, { compress: 'xz' })).bytes;
  for (const share of [0.5, 1, 2, 3]) {
    const out = join(folder(), 'out');
    const controller = new AbortController();
    const input = new Watched(packed, packed.length * share, () => controller.abort());
    const options = { compact: true, machine: 'pseries-7', signal: controller.signal };
    const outcome = await rewrite(input, out, options).catch((error) => error.code);
    if (typeof outcome === 'string') {
      expect(outcome).toBe('E_ABORTED');
      expect(readdirSync(join(out, '..'))).toEqual([]);
    }
    expect(children()).toEqual([]);
  }
});

test('a silent pipe can be aborted', async () => {
  const controller = new AbortController();
  const silent = async function* (): AsyncGenerator<Uint8Array> {
    yield GUEST.subarray(0, 1000);
    await new Promise<never>(() => undefined);
  };
  const input = new IterableSource(silent());
  const waiting = rewritten(input, { signal: controller.signal });
  setImmediate(() => controller.abort());
  expect((await refusal(waiting)).code).toBe('E_ABORTED');
});

describe('a sink that fails', () => {
  test.each(EDITS.filter(([, { htab }]) => htab === undefined))('%s', async (_, edit) => {
    let taken = 0;
    const write = async (bytes: Uint8Array): Promise<void> => {
      taken += bytes.length;
      if (taken > 50_000) throw new Error('full');
    };
    await expect(rewrite(new BufferSource(GUEST), { write }, edit)).rejects.toThrow('full');
    expect(children()).toEqual([]);
  });
});

describe('progress', () => {
  const packed = gzipSync(GUEST);
  const pieces = function* (): Generator<Uint8Array> {
    for (let at = 0; at < GUEST.length; at += 100_000) yield GUEST.subarray(at, at + 100_000);
  };
  const qcow2 = load(fixture('containers/qcow2-10.0.qcow2.gz'));

  test.each([
    ['a copy', () => new BufferSource(GUEST), {}],
    ['compact', () => new BufferSource(GUEST), { compact: true }],
    ['compressed input', () => new BufferSource(packed), { compact: true }],
    ['a compressed copy', () => new BufferSource(packed), {}],
    ['compressed output', () => new BufferSource(GUEST), { compress: 'gzip' }],
    ['a pipe', () => new IterableSource(pieces()), { boltedOnly: true }],
    ['an image', () => new BufferSource(qcow2), {}],
    [
      'what stands behind others',
      () => new BufferSource(Buffer.concat([GUEST, packed])),
      { offset: GUEST.length, compact: true },
    ],
  ] as [string, () => BufferSource, RewriteOptions][])('%s', async (_, input, edit) => {
    const seen: { position: number; total: number | undefined }[] = [];
    await rewritten(input(), { ...edit, onProgress: (at) => seen.push({ ...at }) });
    expect(seen.length).toBeGreaterThan(3);
    for (const [i, { position, total }] of seen.entries()) {
      expect(position).toBeGreaterThanOrEqual(seen[i - 1]?.position ?? 0);
      expect(position).toBeLessThanOrEqual(total ?? position);
    }
    const last = seen.at(-1);
    expect(last?.position).toBe(last?.total ?? last?.position);
  });
});
