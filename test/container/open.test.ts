import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { BufferSource } from '../../src/bytes/source.js';
import { inspectContainer, openContainer } from '../../src/container/open.js';
import { makeLibvirt } from './make-libvirt.js';
import { makeQcow2 } from './make-qcow2.js';
import { pattern, pipe, readAll, refusal } from './support.js';

const stream = Buffer.concat([Buffer.from('5145564d00000003', 'hex'), pattern(200_000)]);
const open = (bytes: Uint8Array, options = {}) => openContainer(new BufferSource(bytes), options);
const twoStates = [
  { id: '1', name: '2', state: stream },
  { id: '2', name: 'other', state: Buffer.concat([stream, stream]) },
  { id: '3', name: 'disk', state: Buffer.alloc(0) },
];

describe('openContainer', () => {
  test('a bare stream and what is not known stay as they are', async () => {
    for (const bytes of [stream, Buffer.alloc(0), Buffer.alloc(4096), pattern(100)]) {
      const source = new BufferSource(bytes);
      const opened = await openContainer(source);
      expect(opened.source).toBe(source);
      expect(opened).toMatchObject({ layers: [], start: 0 });
    }
  });

  test('an offset', async () => {
    const shifted = Buffer.concat([Buffer.alloc(70_001, 9), stream]);
    expect(await open(shifted, { offset: 70_001 })).toMatchObject({ layers: [], start: 70_001 });
    const opened = await openContainer(pipe(shifted), { offset: 70_001 });
    expect((await readAll(opened.source, opened.start)).equals(stream)).toBe(true);
  });

  test.each([0, 6])('a libvirt image of format %i: the same source', async (format) => {
    const image = makeLibvirt({ format, stream, cookie: '<c/>' });
    for (const source of [new BufferSource(image), pipe(image)]) {
      const opened = await openContainer(source);
      expect(opened.source).toBe(source);
      expect((await readAll(opened.source, opened.start)).equals(stream)).toBe(true);
      expect(opened.layers).toMatchObject([{ kind: 'libvirt', streamOffset: opened.start }]);
      expect(opened.layers[0]).not.toHaveProperty('xml');
    }
    const { layers } = await open(image, { xml: true });
    expect(layers[0]).toMatchObject({ xml: '<domain type="kvm"/>', cookie: '<c/>' });
  });

  test('a compressed libvirt image', async () => {
    const image = makeLibvirt({ format: 1, stream: gzipSync(stream) });
    for (const source of [new BufferSource(image), pipe(image)]) {
      await using opened = await openContainer(source);
      expect(opened.layers).toMatchObject([{ kind: 'libvirt', format: 'gzip' }]);
      expect((await readAll(opened.source, opened.start)).equals(stream)).toBe(true);
    }
  });

  test('containers in one another', async () => {
    const image = gzipSync(makeLibvirt({ format: 1, stream: gzipSync(gzipSync(stream)) }));
    await using opened = await open(Buffer.concat([Buffer.alloc(5), image]), { offset: 5 });
    expect(opened.layers.map(({ kind, offset }) => [kind, offset])).toEqual([
      ['gzip', 5],
      ['libvirt', 0],
      ['gzip', 0],
    ]);
    expect((await readAll(opened.source, opened.start)).equals(stream)).toBe(true);
  });

  test('not without end', async () => {
    let bytes = gzipSync(stream);
    for (let depth = 1; depth < 4; depth++) bytes = gzipSync(bytes);
    await using opened = await open(bytes);
    expect(opened.layers.length).toBe(4);
    expect((await refusal(open(gzipSync(bytes)))).code).toBe('E_LIMIT');
  });

  test.skipIf(spawnSync('zstd', ['--version']).error !== undefined)('through zstd', async () => {
    const packed = spawnSync('zstd', ['-c'], { input: stream, maxBuffer: 1 << 28 }).stdout;
    await using opened = await openContainer(pipe(packed));
    expect(opened.layers).toEqual([{ kind: 'zstd', offset: 0 }]);
    expect((await readAll(opened.source, opened.start)).equals(stream)).toBe(true);
  });

  test.each([
    ['7f454c4602020100', 'no device state'],
    ['4b44554d50202020', 'kernel dump'],
    ['4b444d5600000001', 'VMware'],
    ['4c554b53babe0001', 'cryptsetup'],
    ['514649fb00000001', 'version 1'],
    ['5145440000000000', 'QED'],
  ])('%s is refused with the reason', async (hex, words) => {
    const error = await refusal(open(Buffer.from(hex, 'hex')));
    expect(error).toMatchObject({ name: 'UnsupportedError', code: 'E_CONTAINER' });
    expect(error.message).toContain(words);
  });

  test('an aborted signal', async () => {
    expect((await refusal(open(stream, { signal: AbortSignal.abort() }))).code).toBe('E_ABORTED');
  });

  test('close reaches the file', async () => {
    const source = new Watched(makeQcow2({ snapshots: twoStates }).image);
    const opened = await openContainer(source, { snapshot: 'other' });
    await opened.close();
    expect(source.closed).toBe(true);
    const failing = new Watched(Buffer.from('7f454c46', 'hex'));
    await refusal(openContainer(failing));
    expect(failing.closed).toBe(true);
  });
});

describe('qcow2', () => {
  const { image } = makeQcow2({ snapshots: twoStates });

  test('several snapshots: name one', async () => {
    const error = await refusal(open(image));
    expect(error).toMatchObject({ name: 'UsageError', code: 'E_SNAPSHOT' });
    expect(error.message).toContain('2 internal snapshots');
    expect(error.message).toContain('1 (2), 2 (other)');
  });

  test.each([
    ['1', '1'],
    ['2', '2'], // the ID, although another one has this name
    ['other', '2'],
  ])('%s is snapshot %s', async (snapshot, id) => {
    const opened = await open(image, { snapshot });
    expect(opened.layers).toMatchObject([{ kind: 'qcow2', chosen: { id } }]);
    expect(opened.start).toBe(0);
    const bytes = await readAll(opened.source);
    expect(bytes.subarray(0, stream.length).equals(stream)).toBe(true);
  });

  test('one that is not there, and one of the disk alone', async () => {
    const missing = await refusal(open(image, { snapshot: 'x\u001b[2J' }));
    expect(missing.code).toBe('E_SNAPSHOT');
    expect(missing.message).not.toContain('\u001b');
    expect((await refusal(open(image, { snapshot: 'disk' }))).message).toContain('disk alone');
  });

  test('the only one with a VM state needs no name', async () => {
    const made = makeQcow2({ snapshots: twoStates.slice(1) });
    const opened = await open(made.image);
    expect(opened.layers).toMatchObject([{ chosen: { id: '2' } }]);
  });

  test('none', async () => {
    expect((await refusal(open(makeQcow2().image))).message).toContain(
      'without internal snapshots',
    );
    const disks = makeQcow2({ snapshots: twoStates.slice(2) });
    expect((await refusal(open(disks.image))).name).toBe('UnsupportedError');
  });

  test('the layers are plain data, and there although nothing was opened', async () => {
    const { layers, opened, refusal: reason } = await inspectContainer(new BufferSource(image));
    expect(opened).toBeUndefined();
    expect(reason?.code).toBe('E_SNAPSHOT');
    expect(JSON.parse(JSON.stringify(layers))).toEqual(layers);
    expect(layers).toMatchObject([
      {
        kind: 'qcow2',
        chosen: null,
        snapshots: [
          { id: '1', name: '2', date: '2023-11-14T22:13:20.123Z', vmStateSize: stream.length },
          { id: '2', name: 'other' },
          { id: '3', name: 'disk', vmStateSize: 0, icount: null },
        ],
      },
    ]);
  });

  test('at an offset', async () => {
    const opened = await open(Buffer.concat([Buffer.alloc(333), image]), {
      offset: 333,
      snapshot: '1',
    });
    expect((await readAll(opened.source)).equals(stream)).toBe(true);
  });

  test('in a pipe: refused, or copied first', async () => {
    const packed = gzipSync(image);
    const none = { limits: { spoolBytes: 0 } };
    expect((await refusal(open(packed, { snapshot: '1', ...none }))).code).toBe('E_NOT_SEEKABLE');
    await using opened = await open(packed, { snapshot: '1' });
    expect(opened.layers.map(({ kind }) => kind)).toEqual(['gzip', 'qcow2']);
    expect((await readAll(opened.source)).equals(stream)).toBe(true);
    const tight = open(packed, { snapshot: '1', limits: { spoolBytes: 1000 } });
    expect((await refusal(tight)).code).toBe('E_LIMIT');
  });

  test('a mark of damage is a warning', async () => {
    const made = makeQcow2({ features: 2n, snapshots: twoStates.slice(0, 1) });
    const { layers } = await open(made.image);
    expect(layers).toMatchObject([{ warnings: [expect.stringContaining('corrupt')] }]);
  });
});

class Watched extends BufferSource {
  closed = false;

  override close(): Promise<void> {
    this.closed = true;
    return super.close();
  }
}
