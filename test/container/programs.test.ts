import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { loadAddon } from '../../src/addon/load.js';
import {
  BufferSource,
  type ByteSource,
  FileSource,
  openFile,
  SliceSource,
} from '../../src/bytes/source.js';
import { openDecompressed } from '../../src/container/decompress.js';
import { EXTERNAL, type ExternalKind } from '../../src/container/external.js';
import { openContainer } from '../../src/container/open.js';
import { BOTH, useAddon } from '../bytes/support.js';
import { CONTAINERS, load } from '../helpers/fixtures.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { descriptors, LINUX, until } from '../native/support.js';
import { pattern, pipe, readAll, refusal } from './support.js';

const KINDS = (Object.keys(EXTERNAL) as ExternalKind[]).filter(
  (kind) => spawnSync(EXTERNAL[kind].program, ['--version']).error === undefined,
);

const plain = pattern(2_500_000);
const packed = (kind: ExternalKind): Buffer => {
  const { program, compress } = EXTERNAL[kind];
  return execFileSync(program, compress, { input: plain, maxBuffer: 1 << 28 });
};

const PATH = process.env.PATH;
afterEach(() => {
  process.env.PATH = PATH;
  vi.restoreAllMocks();
});

/** Has a shell script stand for zstd until the end of the test. */
function pretend(script: string): void {
  const folder = join(scratch(), `bin-${Math.random()}`);
  mkdirSync(folder);
  const path = join(folder, 'zstd');
  appendFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  process.env.PATH = `${folder}:${PATH}`;
}

/** Where compressed bytes may stand, with others around them. */
const PLACES: Readonly<
  Record<string, (bytes: Buffer) => Promise<{ source: ByteSource; start: number; own: boolean }>>
> = {
  'a file': async (bytes) => ({
    source: await openFile(scratchFile('whole', bytes)),
    start: 0,
    own: true,
  }),
  'a file, from a position': async (bytes) => ({
    source: await openFile(scratchFile('from', Buffer.concat([pattern(70_001), bytes]))),
    start: 70_001,
    own: true,
  }),
  'a slice of a slice, to the end of the file': async (bytes) => {
    const file = await openFile(scratchFile('slice', Buffer.concat([pattern(1000), bytes])));
    return { source: new SliceSource(new SliceSource(file, 300), 200), start: 500, own: true };
  },
  'a slice with more of the file behind it': async (bytes) => {
    const around = Buffer.concat([pattern(1000), bytes, pattern(100_000)]);
    const file = await openFile(scratchFile('inside', around));
    return { source: new SliceSource(file, 400, 600 + bytes.length), start: 600, own: false };
  },
  'a class that reads in its own way': async (bytes) => {
    class Inverted extends FileSource {
      override async read(target: Uint8Array, position: number): Promise<number> {
        const count = await super.read(target, position);
        for (let at = 0; at < count; at++) target[at] = ~(target[at] ?? 0);
        return count;
      }
    }
    const path = scratchFile(
      'inverted',
      bytes.map((byte) => ~byte),
    );
    const source = new Inverted(path, await open(path), bytes.length);
    return { source, start: 0, own: false };
  },
  memory: async (bytes) => ({ source: new BufferSource(bytes), start: 0, own: false }),
  'a pipe': async (bytes) => ({ source: pipe(bytes, 10_000), start: 0, own: false }),
};

describe.each(BOTH)('%s', (_, on) => {
  test.each(KINDS)('%s gives the same bytes wherever they stand', async (kind) => {
    useAddon(on);
    const child = loadAddon().addon?.child;
    const bytes = packed(kind);
    const before = descriptors().size;
    for (const [name, place] of Object.entries(PLACES)) {
      const reopen = child && vi.spyOn(child, 'reopen');
      const made = child && vi.spyOn(child, 'pipe');
      const { source, start, own } = await place(bytes);
      const opened = await openDecompressed(source, kind, { start });
      const result = await readAll(opened, 0, [300_000, 1, 65_536]);
      expect(result.equals(plain), name).toBe(true);
      if (LINUX && on) {
        expect(reopen?.mock.calls.length, name).toBe(own ? 1 : 0);
        expect(made?.mock.calls.length, name).toBe(1);
      }
      await opened.close();
      vi.restoreAllMocks();
    }
    if (LINUX) expect(descriptors().size).toBe(before);
  });

  test.each(CONTAINERS.filter(({ file }) => /libvirt-(bzip2|gzip|lzop|xz|zstd)/.test(file)))(
    '$file: the stream is that of the image stored as it is',
    async (item) => {
      useAddon(on);
      const path = scratchFile('image', load(item));
      await using opened = await openContainer(await openFile(path));
      const stream = await readAll(opened.source, opened.start);
      await using fed = await openContainer(new BufferSource(load(item)));
      expect(stream.equals(await readAll(fed.source, fed.start))).toBe(true);
      expect(stream.toString('latin1', 0, 4)).toBe('QEVM');
    },
  );

  test.runIf(LINUX)('a device that fails is no damaged data', async () => {
    useAddon(on);
    // Nothing is mapped at 0: EIO.
    const source = new FileSource('device', await open('/proc/self/mem'), 100_000);
    await using opened = await openDecompressed(source, 'zstd');
    expect(await refusal(readAll(opened))).toMatchObject({ code: 'E_IO', actual: 'EIO' });
  });

  test('a program that is killed, and one that says something', async () => {
    useAddon(on);
    const path = scratchFile('any', pattern(1000));
    pretend('printf abc; kill -9 $$');
    await using killed = await openDecompressed(await openFile(path), 'zstd');
    expect(await refusal(readAll(killed))).toMatchObject({
      code: 'E_COMPRESSED',
      actual: 'ended by SIGKILL',
    });
    pretend('printf abc; echo it is broken >&2; exit 3');
    await using failed = await openDecompressed(await openFile(path), 'zstd');
    const bytes = Buffer.alloc(10);
    expect(await failed.read(bytes, 0)).toBe(3);
    expect(await refusal(failed.read(bytes, 3))).toMatchObject({
      code: 'E_COMPRESSED',
      actual: 'exit status 3: it is broken',
    });
  });

  test('no program: what was opened for it is closed', async () => {
    useAddon(on);
    process.env.PATH = '/nonexistent';
    const before = LINUX ? descriptors().size : 0;
    for (let round = 0; round < 20; round++) {
      const source = await openFile(scratchFile('any', pattern(1000)));
      const error = await refusal(openDecompressed(source, 'zstd'));
      expect(error.code).toBe('E_PROGRAM_MISSING');
      await source.close();
    }
    if (!LINUX) return;
    await until(() => descriptors().size === before);
  });

  test('two programs that read one file at once each begin where they are told', async () => {
    useAddon(on);
    const bytes = packed('zstd');
    const path = scratchFile('twice', Buffer.concat([bytes, pattern(999), bytes]));
    const size = bytes.length;
    await using file = await openFile(path);
    const first = new SliceSource(file, 0, undefined, false);
    await using one = await openDecompressed(first, 'zstd', { start: size + 999 });
    await using two = await openDecompressed(first, 'zstd', { start: size + 999 });
    const both = await Promise.all([readAll(one, 0, [10_000]), readAll(two, 0, [30_000])]);
    for (const result of both) expect(result.equals(plain)).toBe(true);
    const between = Buffer.alloc(999);
    expect(await file.read(between, size)).toBe(999);
    expect(between.equals(pattern(999))).toBe(true);
  });

  test('more at once than the pool has threads, read by themselves or fed', async () => {
    useAddon(on);
    const bytes = packed('zstd');
    const path = scratchFile('many', bytes);
    const sources = Array.from({ length: 24 }, async (_, at) =>
      at % 2 === 0
        ? openFile(path)
        : new SliceSource(
            await openFile(scratchFile('longer', Buffer.concat([bytes, pattern(10)]))),
            0,
            bytes.length,
          ),
    );
    const results = await Promise.all(
      sources.map(async (opening) => {
        await using opened = await openDecompressed(await opening, 'zstd');
        return (await readAll(opened)).equals(plain);
      }),
    );
    expect(results).toEqual(Array.from({ length: 24 }, () => true));
  });

  test('programs that give nothing hold up nobody, and are ended at once', async () => {
    useAddon(on);
    const before = LINUX ? descriptors().size : 0;
    const path = scratchFile('any', pattern(300_000));
    pretend('printf abc; exec sleep 1000');
    const controllers = Array.from({ length: 16 }, () => new AbortController());
    const many = await Promise.all(
      controllers.map(async ({ signal }) =>
        openDecompressed(await openFile(path), 'zstd', { signal }),
      ),
    );
    const bytes = Buffer.alloc(10);
    for (const opened of many) expect(await opened.read(bytes, 0)).toBe(3);
    const waiting = many.map((opened) => refusal(opened.read(Buffer.alloc(10), 3)));
    // Whatever else the process does with the threads of the pool goes on.
    const other = scratchFile('other');
    await writeFile(other, 'content');
    expect(await readFile(other, 'utf8')).toBe('content');
    await Promise.all(many.slice(0, 8).map((opened) => opened.close()));
    for (const controller of controllers) controller.abort();
    for (const [at, error] of (await Promise.all(waiting)).entries()) {
      if (at >= 8) expect(error.code).toBe('E_ABORTED');
    }
    await Promise.all(many.map((opened) => opened.close()));
    if (LINUX) await until(() => descriptors().size === before);
  });

  test('somebody else who still has the pipe does not keep it from being closed', async () => {
    useAddon(on);
    const path = scratchFile('any', pattern(1000));
    const pid = scratchFile('pid');
    pretend(`sleep 1000 & echo $! >${pid}; printf abc; wait`);
    const opened = await openDecompressed(await openFile(path), 'zstd');
    expect(await opened.read(Buffer.alloc(10), 0)).toBe(3);
    const waiting = refusal(opened.read(Buffer.alloc(10), 3));
    await until(() => existsSync(pid));
    try {
      await opened.close();
      expect((await waiting).code).toBe('E_COMPRESSED');
    } finally {
      process.kill(Number(readFileSync(pid, 'utf8')));
    }
  });

  test('a program that is read slowly waits, and nothing is lost', async () => {
    useAddon(on);
    await using opened = await openDecompressed(
      await openFile(scratchFile('slow', packed('lzop'))),
      'lzop',
    );
    const pieces: Buffer[] = [];
    for (let position = 0; ; ) {
      const piece = Buffer.alloc(position < 200_000 ? 10_000 : 700_000);
      const count = await opened.read(piece, position);
      if (count === 0) break;
      pieces.push(piece.subarray(0, count));
      position += count;
      await sleep(position < 500_000 ? 5 : 0);
    }
    expect(Buffer.concat(pieces).equals(plain)).toBe(true);
  });
});

test.runIf(LINUX)('what cannot be opened again is fed; without a pipe, Node has one', async () => {
  const child = loadAddon().addon?.child;
  if (child === undefined) throw new Error('the addon is not built');
  const bytes = packed('zstd');
  const { EACCES, EMFILE } = constants.errno;
  for (const [file, output] of [
    [true, false],
    [false, true],
    [false, false],
  ]) {
    if (!file) vi.spyOn(child, 'reopen').mockResolvedValue({ errno: EACCES });
    if (!output) vi.spyOn(child, 'pipe').mockReturnValue({ errno: EMFILE });
    await using opened = await openDecompressed(await openFile(scratchFile('file', bytes)), 'zstd');
    expect((await readAll(opened)).equals(plain)).toBe(true);
    vi.restoreAllMocks();
  }
});
