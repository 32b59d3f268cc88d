import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BufferSource } from '../../src/bytes/source.js';
import { readQcow2Header } from '../../src/container/qcow2-header.js';
import { readQcow2Snapshots } from '../../src/container/qcow2-snapshots.js';
import { type ClusterKind, makeQcow2, type Qcow2Recipe } from './make-qcow2.js';
import { mix, openState } from './qcow2-support.js';
import { pattern, pipe, readAll, refusal } from './support.js';

const mixV2 = (cluster: number): ClusterKind => (mix(cluster) === 'zero' ? 'hole' : mix(cluster));
const mixExtended = (cluster: number): ClusterKind =>
  cluster % 3 === 1 ? 'mixed' : cluster % 7 === 0 ? 'zero-allocated' : mix(cluster);

describe('VM state', () => {
  const shapes: (Qcow2Recipe & { clusterBits: number })[] = [];
  for (let clusterBits = 9; clusterBits <= 21; clusterBits++) {
    shapes.push({ clusterBits, version: 2 });
    shapes.push({ clusterBits, version: 3, compression: 'zstd' });
    if (clusterBits >= 14) shapes.push({ clusterBits, extendedL2: true });
  }

  test.each(shapes)('%o', { timeout: 60_000 }, async (shape) => {
    const size = Math.min(2 ** shape.clusterBits * 9, 6_000_000) + 77;
    const plan = shape.extendedL2 ? mixExtended : shape.version === 2 ? mixV2 : mix;
    const made = makeQcow2({
      ...shape,
      snapshots: [
        { id: '1', name: 'a', state: pattern(size), plan },
        { id: '2', name: 'b', state: pattern(size - 1000, 5), plan: (n) => plan(n + 2) },
      ],
    });
    for (const [index, model] of made.states.entries()) {
      const source = await openState(new BufferSource(made.image), index);
      expect(source.size).toBe(model.length);
      expect((await readAll(source, 0, [1 << 20])).equals(model)).toBe(true);
      expect((await readAll(source, 1, [1, 511, 70001, 4096])).equals(model.subarray(1))).toBe(
        true,
      );
    }
  });

  test('reads at random places equal the model', async () => {
    const kinds = fc.constantFrom<ClusterKind>(
      'data',
      'zero',
      'hole',
      'compressed',
      'zero-allocated',
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 9, max: 12 }),
        fc.array(kinds, { minLength: 1, maxLength: 200 }),
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 20000 })), { minLength: 5, maxLength: 20 }),
        fc.integer({ min: 1, max: 9 }),
        async (clusterBits, plan, reads, gapEvery) => {
          const state = pattern(plan.length * 2 ** clusterBits - 100);
          const made = makeQcow2({
            clusterBits,
            gapEvery,
            snapshots: [{ id: '1', name: 'x', state, plan: (n) => plan[n] ?? 'data' }],
          });
          const source = await openState(new BufferSource(made.image));
          for (const [where, length] of reads) {
            const position = where % (state.length + 10);
            const target = Buffer.alloc(length, 0xcc);
            const count = await source.read(target, position);
            const wanted = made.states[0]?.subarray(position, position + length);
            expect(target.subarray(0, count).equals(wanted ?? target)).toBe(true);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('random reads of subclusters equal the model', async () => {
    const made = makeQcow2({
      clusterBits: 14,
      extendedL2: true,
      snapshots: [{ id: '1', name: 'x', state: pattern(400_000), plan: mixExtended }],
    });
    const model = made.states[0] ?? Buffer.alloc(0);
    const source = await openState(new BufferSource(made.image));
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 400_000 }), fc.nat({ max: 40_000 }), async (at, length) => {
        const target = Buffer.alloc(length);
        const count = await source.read(target, at);
        expect(target.subarray(0, count).equals(model.subarray(at, at + length))).toBe(true);
      }),
    );
  });

  test('a run of clusters that stand together is one read', async () => {
    const made = makeQcow2({
      clusterBits: 9,
      gapEvery: Number.POSITIVE_INFINITY,
      snapshots: [{ id: '1', name: 'x', state: pattern(64 * 512) }],
    });
    const counted = new CountingSource(made.image);
    const source = await openState(counted);
    counted.reads = 0;
    expect(await source.read(Buffer.alloc(64 * 512), 0)).toBe(64 * 512);
    expect(counted.reads).toBe(1); // the data: opening has read the L2 table
  });

  test('stands after the disk as it was, not as it is', async () => {
    const clusterBits = 9; // an L1 entry covers 32 KiB
    const state = pattern(5000);
    for (const diskSize of [0, 1, 32768, 32769, 1 << 20]) {
      const made = makeQcow2({
        clusterBits,
        diskSize: 123456 * 512,
        snapshots: [{ id: '1', name: 'x', state, diskSize }],
      });
      const source = await openState(new BufferSource(made.image));
      expect((await readAll(source)).equals(state)).toBe(true);
    }
  });

  test('a part of a sector at the end of the disk counts, as in QEMU', async () => {
    // 32768 whole bytes and one more: the state begins at the third L1 entry, although the
    // snapshot's own size, in whole sectors, would say the second.
    const made = makeQcow2({
      clusterBits: 9,
      diskSize: 32769,
      snapshots: [{ id: '1', name: 'x', state: pattern(5000) }],
    });
    made.image.writeBigUInt64BE(32768n, made.snapshotsOffset + 48);
    const source = await openState(new BufferSource(made.image));
    expect((await readAll(source)).equals(pattern(5000))).toBe(true);
  });

  test('closes the image', async () => {
    const made = makeQcow2({ snapshots: [{ id: '1', name: 'x', state: pattern(10) }] });
    const counted = new CountingSource(made.image);
    {
      await using source = await openState(counted);
      expect(source.size).toBe(10);
    }
    expect(counted.closed).toBe(true);
  });
});

describe('snapshot table', () => {
  test.each([0, 8, 16, 24, 25, 40, 1024])('%i bytes of extra data', async (extraLength) => {
    const made = makeQcow2({
      diskSize: 3 * 1024 * 1024 + 100,
      snapshots: [
        {
          id: '17',
          name: 'ein Name mit ü',
          state: pattern(3000),
          extraLength,
          icount: 42n,
          vmClock: 2n ** 63n + 5n,
          date: [4_000_000_000, 999_999_999],
          diskSize: 2048,
        },
        { id: '18', name: '', state: Buffer.alloc(0), extraLength: 0 },
      ],
    });
    const image = new BufferSource(made.image);
    const [first, second] = await readQcow2Snapshots(image, await readQcow2Header(image));
    expect(first).toMatchObject({
      id: '17',
      name: 'ein Name mit ü',
      vmStateSize: 3000,
      icount: extraLength >= 24 ? 42n : null,
      vmClock: 2n ** 63n + 5n,
      dateSeconds: 4_000_000_000,
      dateNanoseconds: 999_999_999,
      diskSize: extraLength >= 16 ? 2048 : 3 * 1024 * 1024,
    });
    expect(second).toMatchObject({ id: '18', name: '', vmStateSize: 0, icount: null });
  });

  test('thousands of snapshots', async () => {
    const made = makeQcow2({
      clusterBits: 9,
      snapshots: Array.from({ length: 3000 }, (_, index) => ({
        id: String(index),
        name: `n${'x'.repeat(index % 50)}`,
        state: Buffer.alloc(0),
      })),
    });
    const counted = new CountingSource(made.image);
    const snapshots = await readQcow2Snapshots(counted, await readQcow2Header(counted));
    expect(snapshots.map(({ id }) => Number(id))).toEqual([...Array(3000).keys()]);
    expect(counted.reads).toBeLessThan(30);
  });
});

describe('refusals', () => {
  const one = [{ id: '1', name: 'x', state: pattern(100_000), plan: mix }];
  const header = (recipe: Qcow2Recipe) =>
    readQcow2Header(new BufferSource(makeQcow2(recipe).image));
  const state = (recipe: Qcow2Recipe) => openState(new BufferSource(makeQcow2(recipe).image));

  test('encryption and external data: listed, not read', async () => {
    const aes = { encryption: 1, snapshots: one };
    expect((await header(aes)).encryption).toBe('aes');
    expect(await refusal(state(aes))).toMatchObject({ name: 'UnsupportedError', offset: 32 });
    expect((await refusal(state({ encryption: 2, snapshots: one }))).message).toContain('LUKS');
    expect((await refusal(state({ features: 4n, snapshots: one }))).message).toContain(
      'another file',
    );
    expect((await refusal(header({ encryption: 3 }))).code).toBe('E_UNSUPPORTED');
  });

  test('unknown features are named where the image names them', async () => {
    const error = await refusal(
      header({ features: (1n << 5n) | (1n << 63n), featureNames: [[5, 'teleport']] }),
    );
    expect(error).toMatchObject({ code: 'E_UNSUPPORTED', offset: 72 });
    expect(error.actual).toBe('bit 5 (teleport), bit 63');
  });

  test('dirty and corrupt are facts', async () => {
    expect(await header({ features: 3n })).toMatchObject({ dirty: true, corrupt: true });
  });

  test('the backing file is named and never opened', async () => {
    expect((await header({ backingFile: '/no/such/file' })).backingFile).toBe('/no/such/file');
  });

  test('a snapshot of the disk alone', async () => {
    const error = await refusal(
      state({ snapshots: [{ id: '9', name: 'd', state: Buffer.alloc(0) }] }),
    );
    expect(error.message).toContain('disk alone');
  });

  test('zero clusters do not exist in version 2', async () => {
    const source = await state({ version: 2, clusterBits: 12, snapshots: one });
    expect((await refusal(readAll(source))).code).toBe('E_CONTAINER');
  });

  test('a pipe', async () => {
    const error = await refusal(readQcow2Header(pipe(makeQcow2().image)));
    expect(error.code).toBe('E_NOT_SEEKABLE');
  });

  test.each([
    ['version', 4, 4, 4, 'E_VERSION'],
    ['cluster bits', 20, 4, 8, 'E_CONTAINER'],
    ['cluster bits', 20, 4, 22, 'E_CONTAINER'],
    ['backing file offset', 8, 8, 1 << 20, 'E_CONTAINER'],
    ['number of snapshots', 60, 4, 65537, 'E_LIMIT'],
    ['place of the table', 64, 8, 1, 'E_CONTAINER'],
    ['header length', 100, 4, 96, 'E_CONTAINER'],
    ['header length', 100, 4, 1 << 20, 'E_CONTAINER'],
    ['compression type', 104, 1, 2, 'E_UNSUPPORTED'],
    ['compression type without its bit', 104, 1, 1, 'E_CONTAINER'],
  ])('%s at %i', async (_name, at, length, value, code) => {
    const { image } = makeQcow2({ snapshots: one });
    const field = Buffer.alloc(8);
    field.writeBigUInt64BE(BigInt(value));
    field.copy(image, at, 8 - length);
    expect((await refusal(readQcow2Header(new BufferSource(image)))).code).toBe(code);
  });

  test('limits of the snapshot', async () => {
    const made = makeQcow2({ snapshots: one });
    const attempt = (change: (entry: Buffer) => void) => {
      const image = Buffer.from(made.image);
      change(image.subarray(made.snapshotsOffset));
      return refusal(openState(new BufferSource(image)));
    };
    expect((await attempt((e) => e.writeUInt32BE(1025, 36))).code).toBe('E_LIMIT');
    expect((await attempt((e) => e.writeUInt32BE(0xffffffff, 8))).code).toBe('E_LIMIT');
    expect((await attempt((e) => e.writeUInt32BE(1, 8))).code).toBe('E_CONTAINER');
    expect((await attempt((e) => e.writeBigUInt64BE(513n, 0))).code).toBe('E_CONTAINER');
    expect((await attempt((e) => e.writeBigUInt64BE(1n << 40n, 0))).code).toBe('E_TRUNCATED');
    expect((await attempt((e) => e.writeBigUInt64BE(1n << 62n, 0))).code).toBe('E_LIMIT');
    expect((await attempt((e) => e.writeBigUInt64BE(1n << 52n, 40))).code).toBe('E_CONTAINER');
    expect((await attempt((e) => e.writeBigUInt64BE(1n << 60n, 40))).code).toBe('E_LIMIT');
  });
});

class CountingSource extends BufferSource {
  reads = 0;
  closed = false;

  override read(target: Uint8Array, position: number): Promise<number> {
    this.reads++;
    return super.read(target, position);
  }

  override close(): Promise<void> {
    this.closed = true;
    return super.close();
  }
}
