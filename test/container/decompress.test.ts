import { execFileSync, spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BufferSource, type ByteSource, IterableSource } from '../../src/bytes/source.js';
import { type CompressionKind, openDecompressed } from '../../src/container/decompress.js';
import { IoError } from '../../src/errors.js';
import { pattern, pipe, readAll, refusal } from './support.js';

const COMPRESSORS: Readonly<Record<CompressionKind, readonly string[]>> = {
  gzip: ['gzip', '-c'],
  bzip2: ['bzip2', '-c'],
  xz: ['xz', '-c', '-1'],
  zstd: ['zstd', '-cq'],
  lzop: ['lzop', '-c'],
  lz4: ['lz4', '-cq'],
};
const KINDS = Object.keys(COMPRESSORS) as CompressionKind[];
const installed = (kind: CompressionKind): boolean =>
  kind === 'gzip' || spawnSync(kind, ['--version']).error === undefined;

function compress(kind: CompressionKind, bytes: Buffer): Buffer {
  if (kind === 'gzip') return gzipSync(bytes);
  const [program = '', ...args] = COMPRESSORS[kind];
  return execFileSync(program, args, { input: bytes, maxBuffer: 1 << 28 });
}

/** Processes that this one started and that still exist, zombies too. */
function children(): number {
  const { stdout } = spawnSync('ps', ['--ppid', String(process.pid), '-o', 'comm='], {
    encoding: 'utf8',
  });
  return stdout.split('\n').filter((line) => /^(bzip2|xz|zstd|lzop|lz4)/.test(line)).length;
}

describe.each(KINDS)('%s', (kind) => {
  const plain = pattern(3_000_000);
  const there = installed(kind);
  const packed = there ? compress(kind, plain) : Buffer.alloc(0);

  test.skipIf(!there)('from a file, at an offset, and from a pipe', async () => {
    const shifted = Buffer.concat([Buffer.alloc(777, 1), packed]);
    const sources: [ByteSource, number][] = [
      [new BufferSource(packed), 0],
      [new BufferSource(shifted), 777],
      [pipe(packed), 0],
    ];
    for (const [source, start] of sources) {
      await using opened = await openDecompressed(source, kind, { start });
      expect(opened.seekable).toBe(false);
      expect(opened.size).toBeUndefined();
      expect((await readAll(opened, 0, [100_000, 1, 65536])).equals(plain)).toBe(true);
    }
    expect(children()).toBe(0);
  });

  test.skipIf(!there)('nothing, compressed', async () => {
    await using opened = await openDecompressed(
      new BufferSource(compress(kind, Buffer.alloc(0))),
      kind,
    );
    expect((await readAll(opened)).length).toBe(0);
  });

  test.skipIf(!there)('cut off: what came before, then an error that stays', async () => {
    await using opened = await openDecompressed(
      new BufferSource(packed.subarray(0, packed.length - 5000)),
      kind,
    );
    const error = await refusal(readAll(opened));
    expect(error).toMatchObject({ name: 'FormatError', code: 'E_COMPRESSED' });
    expect(await refusal(opened.read(Buffer.alloc(10), 2_999_999))).toBe(error);
  });

  test.skipIf(!there)('damaged', async () => {
    const bad = Buffer.from(packed);
    for (let at = 1000; at < bad.length; at += 2000) bad[at] = (bad[at] ?? 0) ^ 0xff;
    await using opened = await openDecompressed(new BufferSource(bad), kind);
    const error = await refusal(readAll(opened));
    expect(error.code).toBe('E_COMPRESSED');
    expect(error.message).toMatch(/^[\x20-\x7e]*$/);
    expect(error.message.length).toBeLessThan(3000);
  });

  test.skipIf(!there)('something else altogether', async () => {
    await using opened = await openDecompressed(
      new BufferSource(Buffer.from('no such data')),
      kind,
    );
    expect((await refusal(readAll(opened))).code).toBe('E_COMPRESSED');
  });

  test.skipIf(!there)(
    'closed in the middle: the program is gone, and so is the parent',
    async () => {
      const source = new EndlessSource(packed);
      const opened = await openDecompressed(source, kind);
      await opened.read(Buffer.alloc(100), 0);
      await opened.close();
      await opened.close();
      expect(source.closed).toBe(1);
      expect(children()).toBe(0);
    },
  );

  test.skipIf(!there)('closed before the first read', async () => {
    const source = new EndlessSource(packed);
    await (await openDecompressed(source, kind)).close();
    expect(source.closed).toBe(1);
    expect(children()).toBe(0);
  });

  test.skipIf(!there)('aborted while it waits for a pipe that says nothing', async () => {
    const controller = new AbortController();
    const source = new SilentSource();
    const opened = await openDecompressed(source, kind, { signal: controller.signal });
    setTimeout(() => controller.abort(), 30);
    expect((await refusal(opened.read(Buffer.alloc(100), 0))).code).toBe('E_ABORTED');
    expect((await refusal(opened.read(Buffer.alloc(100), 0))).code).toBe('E_ABORTED');
    await opened.close();
    expect(children()).toBe(0);
  });

  test.skipIf(!there)('the device fails', async () => {
    const source = new FailingSource(packed, 20_000);
    await using opened = await openDecompressed(source, kind);
    expect((await refusal(readAll(opened))).code).toBe('E_IO');
  });
});

describe('a program that is missing', () => {
  const path = process.env.PATH;
  beforeEach(() => {
    process.env.PATH = '/nonexistent';
  });
  afterEach(() => {
    process.env.PATH = path;
  });

  test.each([
    ['bzip2', 'bzip2'],
    ['xz', 'xz-utils'],
    ['zstd', 'zstd'],
    ['lzop', 'lzop'],
    ['lz4', 'lz4'],
  ] as const)('%s is in %s', async (kind, name) => {
    const error = await refusal(openDecompressed(new BufferSource(Buffer.alloc(9)), kind));
    expect(error).toMatchObject({ name: 'UnsupportedError', code: 'E_PROGRAM_MISSING' });
    expect(error.message).toContain(`apt-get install ${name}`);
  });
});

test('aborted before it began', async () => {
  const signal = AbortSignal.abort();
  const opening = openDecompressed(new BufferSource(Buffer.alloc(0)), 'gzip', { signal });
  expect((await refusal(opening)).code).toBe('E_ABORTED');
});

test('gzip of several members', async () => {
  const packed = Buffer.concat([gzipSync('abc'), gzipSync('def')]);
  await using opened = await openDecompressed(new BufferSource(packed), 'gzip');
  expect(String(await readAll(opened))).toBe('abcdef');
});

/** The bytes again and again. */
class EndlessSource extends BufferSource {
  closed = 0;

  override read(target: Uint8Array, position: number): Promise<number> {
    return super.read(target, position % this.size);
  }

  override close(): Promise<void> {
    this.closed++;
    return Promise.resolve();
  }
}

class SilentSource extends IterableSource {
  constructor() {
    super([], '<silent>');
  }

  override read(): Promise<number> {
    return new Promise(() => {});
  }
}

class FailingSource extends BufferSource {
  constructor(
    bytes: Uint8Array,
    readonly until: number,
  ) {
    super(bytes);
  }

  override read(target: Uint8Array, position: number): Promise<number> {
    if (position >= this.until) throw new IoError('E_IO', 'cannot read: input/output error');
    return super.read(target.subarray(0, this.until - position), position);
  }
}

test('what stands behind gzip data makes the same of it, however it comes', async () => {
  const outcome = async (source: ByteSource): Promise<string> => {
    await using opened = await openDecompressed(source, 'gzip');
    return readAll(opened).then(
      (bytes) => bytes.toString('hex'),
      (error: unknown) => String(error).replace(/<.*?>/, ''),
    );
  };
  for (const behind of ['', '00', '001f8b', '1f8b08', '6161', '0000001f8b08']) {
    const bytes = Buffer.concat([gzipSync(pattern(20)), Buffer.from(behind, 'hex')]);
    const whole = await outcome(new BufferSource(bytes));
    for (let size = 1; size <= bytes.length; size++) {
      expect(await outcome(pipe(bytes, size)), `${behind} in pieces of ${size}`).toBe(whole);
    }
  }
});
