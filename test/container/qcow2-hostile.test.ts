import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BufferSource } from '../../src/bytes/source.js';
import { readQcow2Header } from '../../src/container/qcow2-header.js';
import { readQcow2Snapshots } from '../../src/container/qcow2-snapshots.js';
import { Qcow2VmStateSource } from '../../src/container/qcow2-vmstate.js';
import { makeQcow2 } from './make-qcow2.js';
import { mix, openState } from './qcow2-support.js';
import { pattern, readAll, refusal } from './support.js';

describe('hostile images', () => {
  const made = makeQcow2({
    clusterBits: 9,
    snapshots: [
      { id: '1', name: 'one', state: pattern(20_000), plan: mix },
      { id: '2', name: 'two', state: pattern(3_000), plan: mix },
    ],
  });

  const readEverything = async (image: Uint8Array): Promise<Buffer[]> => {
    const source = new BufferSource(image);
    const header = await readQcow2Header(source);
    const states: Buffer[] = [];
    for (const snapshot of await readQcow2Snapshots(source, header)) {
      const state = await Qcow2VmStateSource.open(source, header, snapshot);
      const head = Buffer.alloc(Math.min(state.size, 100_000));
      await state.read(head, 0);
      states.push(head);
    }
    return states;
  };

  test('every truncation is a typed error or gives the right bytes', async () => {
    for (let length = 0; length < made.image.length; length += length < 120 ? 1 : 37) {
      await readEverything(made.image.subarray(0, length)).then(
        (states) => {
          states.forEach((state, index) => {
            expect(state.equals(made.states[index] ?? state)).toBe(true);
          });
        },
        (error) => refusal(Promise.reject(error)),
      );
    }
    for (let length = made.snapshotsOffset; length < made.snapshotsEnd - 8; length++) {
      await refusal(readEverything(made.image.subarray(0, length)));
    }
  });

  test('every flipped bit of header and snapshot table', { timeout: 60_000 }, async () => {
    const places = [...Array(112).keys()];
    for (let at = made.snapshotsOffset; at < made.snapshotsEnd; at++) places.push(at);
    for (const at of places) {
      for (let bit = 0; bit < 8; bit++) {
        const image = Buffer.from(made.image);
        image[at] = (image[at] ?? 0) ^ (1 << bit);
        await readEverything(image).catch((error) => refusal(Promise.reject(error)));
      }
    }
  });

  test('random damage anywhere', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat({ max: made.image.length - 1 }), fc.nat({ max: 255 })), {
          minLength: 1,
          maxLength: 8,
        }),
        async (damage) => {
          const image = Buffer.from(made.image);
          for (const [at, value] of damage) image[at] = value;
          await readEverything(image).catch((error) => refusal(Promise.reject(error)));
        },
      ),
      { numRuns: 400 },
    );
  });

  test('an L2 table that points at itself comes to an end', async () => {
    const image = Buffer.from(made.image);
    const l1 = Number(image.readBigUInt64BE(made.snapshotsOffset));
    // Every entry of the L1 table is the L1 table, whose entries thus are also data.
    for (let at = l1; at < l1 + 512; at += 8) image.writeBigUInt64BE(BigInt(l1), at);
    const source = await openState(new BufferSource(image));
    expect((await readAll(source)).length).toBe(20_000);
  });
});

describe('compressed clusters', () => {
  const damage = async (compression: 'deflate' | 'zstd', change: (image: Buffer) => void) => {
    const { image } = makeQcow2({
      compression,
      clusterBits: 12,
      snapshots: [{ id: '1', name: 'x', state: pattern(4096), plan: () => 'compressed' }],
    });
    change(image);
    const source = await openState(new BufferSource(image));
    return refusal(readAll(source));
  };
  // The filler in front of the compressed bytes shows where they begin.
  const begin = (image: Buffer): number => image.indexOf(Buffer.alloc(77, 0x5c)) + 77;

  test.each(['deflate', 'zstd'] as const)('%s: damaged', async (compression) => {
    expect(
      await damage(compression, (image) => image.fill(0xff, begin(image), begin(image) + 40)),
    ).toMatchObject({
      code: 'E_COMPRESSED',
    });
  });

  test('a true zstd frame', async () => {
    // printf of 'spapr' 100 times and 12 zeros, through `zstd -19`, as base64.
    const packed = Buffer.from(FRAME, 'base64');
    const plain = Buffer.concat([Buffer.from('spapr'.repeat(100)), Buffer.alloc(12)]);
    const { image } = makeQcow2({
      compression: 'zstd',
      clusterBits: 9,
      snapshots: [{ id: '1', name: 'x', state: plain, plan: () => 'compressed' }],
    });
    packed.copy(image, begin(image));
    const source = await openState(new BufferSource(image));
    expect((await readAll(source)).equals(plain)).toBe(true);
  });

  test('a zstd frame that claims a gigantic size costs nothing', async () => {
    const error = await damage('zstd', (image) => {
      // Content size of 2^62 in 8 bytes, then one RLE block of 2 MiB.
      const bomb = Buffer.from('28b52ffde00000000000000040030000ff', 'hex');
      bomb.writeUIntLE((0x1fffff << 3) | 3, 13, 3);
      bomb.copy(image, begin(image));
    });
    expect(error.code).toBe('E_COMPRESSED');
  });

  test('a deflate stream that holds more than a cluster', async () => {
    const error = await damage('deflate', (image) => {
      deflateRawSync(Buffer.alloc(400_000), { windowBits: 12 }).copy(image, begin(image));
    });
    expect(error.code).toBe('E_COMPRESSED');
  });
});

const FRAME = 'KLUv/QRofQAAMHNwYXByAAIAriHYoRYto6Bnew==';
