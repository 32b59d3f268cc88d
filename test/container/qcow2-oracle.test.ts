import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BufferSource } from '../../src/bytes/source.js';
import { openContainer } from '../../src/container/open.js';
import { readQcow2Header } from '../../src/container/qcow2-header.js';
import { readQcow2Snapshots } from '../../src/container/qcow2-snapshots.js';
import { makeQcow2 } from './make-qcow2.js';
import { pattern, readAll } from './support.js';

const installed = spawnSync('qemu-img', ['--version']).error === undefined;

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-oracle-'));
});
afterAll(() => rm(folder, { recursive: true }));

const qemuImg = (...args: string[]): string =>
  execFileSync('qemu-img', args, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC' },
  });

/**
 * Makes what is on the disk of an image, from the first L1 entry on, the VM state of a snapshot
 * that was taken when the disk had no size: the active L1 becomes the snapshot's.
 */
function diskAsState(image: Buffer, size: number, clusterSize: number): Buffer {
  const entry = Buffer.alloc(72);
  image.copy(entry, 0, 40, 48); // position of the L1 table
  image.copy(entry, 8, 36, 40); // its entries
  entry.writeUInt16BE(1, 12);
  entry.writeUInt16BE(5, 14);
  entry.writeUInt32BE(24, 36);
  entry.writeBigUInt64BE(BigInt(size), 40);
  entry.fill(0xff, 56, 64);
  entry.write('1state', 64);
  const at = Math.ceil(image.length / clusterSize) * clusterSize;
  const made = Buffer.alloc(at + entry.length);
  image.copy(made);
  entry.copy(made, at);
  made.writeUInt32BE(1, 60);
  made.writeBigUInt64BE(BigInt(at), 64);
  return made;
}

describe.skipIf(!installed)('images that qemu-img wrote', () => {
  const plain = pattern(5_000_000);
  plain.fill(0, 1_000_000, 2_200_000);
  plain.copy(plain, 3_000_000, 0, 900_000);

  const shapes: [string, string, boolean][] = [];
  for (const bits of [9, 10, 12, 13, 14, 16, 18, 21]) {
    for (const compressed of [false, true]) {
      shapes.push([`cluster_size=${2 ** bits},compat=0.10`, 'deflate', compressed]);
      shapes.push([`cluster_size=${2 ** bits},compression_type=zstd`, 'zstd', compressed]);
      if (bits < 14) continue;
      shapes.push([`cluster_size=${2 ** bits},extended_l2=on`, 'deflate', compressed]);
    }
  }

  test.each(shapes)(
    '%s, %s, compressed: %s',
    { timeout: 60_000 },
    async (options, _name, compressed) => {
      await writeFile(join(folder, 'raw'), plain);
      const flags = compressed ? ['-c'] : [];
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...flags, '-o', options, 'raw', 'image');
      const written = await readFile(join(folder, 'image'));
      const clusterSize = 2 ** written.readUInt32BE(20);
      const image = diskAsState(written, plain.length, clusterSize);
      const opened = await openContainer(new BufferSource(image));
      const state = await readAll(opened.source, 0, [1 << 20, 4097]);
      expect(state.equals(plain)).toBe(true);
    },
  );

  test('written in odd places, with subclusters that are zero or not there', async () => {
    qemuImg('create', '-f', 'qcow2', '-o', 'extended_l2=on,cluster_size=64k', 'sparse', '4M');
    const commands: string[] = [];
    for (let at = 1024; at < 4_000_000; at += 37 * 1024) {
      const verb = (at >> 10) % 5 === 0 ? '-z -u' : `-P ${(at >> 10) % 255}`;
      commands.push('-c', `write ${verb} ${at} ${((at >> 8) % 60) * 512 + 512}`);
    }
    execFileSync('qemu-io', [...commands, 'sparse'], { cwd: folder });
    qemuImg('convert', '-O', 'raw', 'sparse', 'raw');
    const raw = await readFile(join(folder, 'raw'));
    const image = diskAsState(await readFile(join(folder, 'sparse')), raw.length, 65536);
    const opened = await openContainer(new BufferSource(image));
    expect((await readAll(opened.source, 0, [70_001])).equals(raw)).toBe(true);
  });
});

describe.skipIf(!installed)('images made here', () => {
  test.each([
    { version: 2, clusterBits: 9 },
    { version: 3, clusterBits: 16 },
    { version: 3, clusterBits: 14, extendedL2: true },
    { version: 3, clusterBits: 21, compression: 'zstd' },
  ] as const)('qemu-img lists the same: %o', async (shape) => {
    const { image } = makeQcow2({
      ...shape,
      snapshots: [
        { id: '1', name: 'first', state: pattern(100_000), vmClock: 3_723_004_000_000n },
        { id: '2', name: 'with icount', state: pattern(5000), icount: 123_456n },
        { id: '77', name: 'disk', state: Buffer.alloc(0), diskSize: 2048 },
      ],
    });
    await writeFile(join(folder, 'made'), image);
    const listed = JSON.parse(qemuImg('info', '-U', '--output=json', 'made')).snapshots;
    const source = new BufferSource(image);
    const snapshots = await readQcow2Snapshots(source, await readQcow2Header(source));
    const ours = snapshots.map((snapshot) => ({
      id: snapshot.id,
      name: snapshot.name,
      'vm-state-size': snapshot.vmStateSize,
      'date-sec': snapshot.dateSeconds,
      'date-nsec': snapshot.dateNanoseconds,
      'vm-clock-sec': Number(snapshot.vmClock / 1_000_000_000n),
      'vm-clock-nsec': Number(snapshot.vmClock % 1_000_000_000n),
      ...(snapshot.icount === null ? {} : { icount: Number(snapshot.icount) }),
    }));
    expect(listed).toEqual(ours);
  });

  test('qemu-img reads the same VM state, as a disk', async () => {
    const state = pattern(300_000);
    const made = makeQcow2({ clusterBits: 12, snapshots: [{ id: '1', name: 'x', state }] });
    // The snapshot's L1 becomes the active one, and the disk long enough to hold the VM state.
    const { image, snapshotsOffset } = made;
    image.copy(image, 40, snapshotsOffset, snapshotsOffset + 8);
    image.copy(image, 36, snapshotsOffset + 8, snapshotsOffset + 12);
    const first = 2 * 1024 * 1024; // one L1 entry
    image.writeBigUInt64BE(BigInt(first + 512 * 600), 24);
    image.writeUInt32BE(0, 60);
    await writeFile(join(folder, 'disk'), image);
    qemuImg('convert', '-O', 'raw', 'disk', 'raw');
    const raw = await readFile(join(folder, 'raw'));
    expect(raw.subarray(first, first + state.length).equals(state)).toBe(true);
  });
});
