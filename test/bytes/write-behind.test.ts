import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AtomicFile } from '../../src/bytes/output.js';
import { BufferSource, openFile } from '../../src/bytes/source.js';
import { WriteBehind } from '../../src/bytes/write-behind.js';
import { pattern, refusal } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';
import { BOTH, MIB, smallDevice, useAddon } from './support.js';

const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
let folder = '';
let target = '';
beforeEach(() => {
  process.on('unhandledRejection', note);
  folder = scratchFile('folder');
  mkdirSync(folder);
  target = join(folder, 'target');
});
afterEach(async () => {
  await turn();
  process.off('unhandledRejection', note);
  expect(unhandled.splice(0)).toEqual([]);
});

const ALL = pattern(4 * MIB);
const part = (length: number, seed: number): Buffer => {
  const from = seed % (ALL.length - length + 1);
  return ALL.subarray(from, from + length);
};

/** A file in memory, as plain as can be. */
class Model {
  bytes = Buffer.alloc(0);
  position = 0;

  put(bytes: Uint8Array, at: number): void {
    if (bytes.length === 0) return;
    this.resize(Math.max(this.bytes.length, at + bytes.length));
    this.bytes.set(bytes, at);
  }

  resize(size: number): void {
    const resized = Buffer.alloc(size);
    this.bytes.copy(resized);
    this.bytes = resized;
  }

  append(bytes: Uint8Array): void {
    this.put(bytes, this.position);
    this.position += bytes.length;
  }

  hole(length: number): void {
    this.position += length;
    this.resize(Math.max(this.bytes.length, this.position));
  }
}

const size = fc.oneof(
  fc.nat(100),
  fc.constantFrom(0, 1, 4096, 65_536, MIB - 1, MIB, MIB + 1, 2 * MIB + 3),
  fc.nat(2_000_000),
);
const step = fc.record({
  type: fc.oneof(
    { weight: 6, arbitrary: fc.constant('append' as const) },
    {
      weight: 4,
      arbitrary: fc.constantFrom('hole', 'copy', 'copyTo', 'write', 'read', 'truncate', 'by'),
    },
  ),
  length: size,
  at: size,
  seed: fc.nat(),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

async function apply(file: AtomicFile, model: Model, { type, length, at, seed }: Step) {
  const bytes = part(length, seed);
  switch (type) {
    case 'append': {
      const own = Buffer.from(bytes);
      await file.append(own);
      // It is the caller's again.
      own.fill(0xee);
      model.append(bytes);
      break;
    }
    case 'hole':
      await file.hole(length);
      model.hole(length);
      break;
    case 'copy':
      await file.copy(new BufferSource(bytes), 0, length);
      model.append(bytes);
      break;
    case 'copyTo':
      await file.copyTo(at, new BufferSource(bytes), 0, length);
      model.put(bytes, at);
      break;
    case 'write':
      await file.write(bytes, at);
      model.put(bytes, at);
      break;
    case 'read': {
      const into = Buffer.alloc(length);
      const count = await file.read(into, at);
      const there = model.bytes.subarray(at, at + length);
      // What was passed over at the end is not there yet, or reads as zeros.
      expect(into.subarray(0, count).equals(there.subarray(0, count))).toBe(true);
      expect(there.subarray(count).every((byte) => byte === 0)).toBe(true);
      break;
    }
    case 'truncate':
      await file.truncate(at);
      model.resize(at);
      break;
    case 'by': {
      const { promises } = await import('node:fs');
      await file.appendBy(async (fd, position) => {
        const handle = await promises.open(`/proc/self/fd/${fd}`, 'r+');
        await handle.write(bytes, 0, length, position);
        await handle.close();
        return length;
      });
      model.append(bytes);
      break;
    }
  }
  expect(file.position).toBe(model.position);
}

test('any steps make the file that a plain model makes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const model = new Model();
      await using file = await AtomicFile.create(target, { force: true });
      for (const step of steps) await apply(file, model, step);
      await file.commit();
      expect(readFileSync(target).equals(model.bytes)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

describe.each(BOTH)('beside copies of files, %s', (_, on) => {
  test('appended bytes that are not written yet are not lost, nor overwrite others', async () => {
    useAddon(on);
    await using source = await openFile(scratchFile('in', ALL));
    const model = new Model();
    await using file = await AtomicFile.create(target);
    for (let at = 0; at < 12; at++) {
      const length = 1000 + at * 50_000;
      const bytes = part(length, at * 7919);
      await file.append(bytes);
      model.append(bytes);
      await file.copy(source, at * 3, length);
      model.append(ALL.subarray(at * 3, at * 3 + length));
      // Over what was appended, in part.
      const to = Math.max(0, file.position - length - 500);
      await file.copyTo(to, source, 9, 700);
      model.put(ALL.subarray(9, 709), to);
    }
    await file.commit();
    expect(readFileSync(target).equals(model.bytes)).toBe(true);
  });
});

interface Written {
  readonly bytes: Uint8Array;
  readonly position: number;
  readonly settle: (error?: Error) => void;
}

/** Writes that end when the test says so. */
function scripted() {
  const writes: Written[] = [];
  const memory = new Set<ArrayBufferLike>();
  const behind = new WriteBehind((bytes, position) => {
    memory.add(bytes.buffer);
    return new Promise((resolve, reject) => {
      const settle = (error?: Error) => (error ? reject(error) : resolve());
      writes.push({ bytes, position, settle });
    });
  });
  return { behind, writes, memory };
}

describe('pieces', () => {
  test('are large, end at multiples of their length, and are written in order', async () => {
    const { behind, writes } = scripted();
    const bytes = part(2_500_000, 5);
    let position = 1000;
    const done = (async () => {
      for (let at = 0; at < bytes.length; at += 999) {
        const small = Buffer.from(bytes.subarray(at, at + 999));
        await behind.append(small, position);
        small.fill(0);
        position += small.length;
      }
      await behind.flush();
    })();
    const seen: [position: number, length: number][] = [];
    const out = Buffer.alloc(bytes.length);
    const gather = async () => {
      while (seen.reduce((sum, [, length]) => sum + length, 0) < bytes.length) {
        await turn();
        for (const { bytes, position, settle } of writes.splice(0)) {
          seen.push([position, bytes.length]);
          out.set(bytes, position - 1000);
          settle();
        }
      }
    };
    await Promise.all([done, gather()]);
    expect(out.equals(bytes)).toBe(true);
    expect(seen).toEqual([
      [1000, MIB - 1000],
      [MIB, MIB],
      [2 * MIB, bytes.length + 1000 - 2 * MIB],
    ]);
  });

  test('are a bounded number, however slow the writes are', async () => {
    const { behind, writes, memory } = scripted();
    let appended = 0;
    const work = (async () => {
      for (; appended < 20 * MIB; appended += 100_000) {
        await behind.append(part(100_000, appended), appended);
      }
      await behind.flush();
    })();
    let most = 0;
    let ended = false;
    void work.then(() => {
      ended = true;
    });
    let written = 0;
    while (!ended) {
      // As much as it does without a write that ends.
      for (let turns = 0; turns < 5; turns++) await turn();
      most = Math.max(most, appended - written);
      const one = writes.shift();
      if (one === undefined) continue;
      written += one.bytes.length;
      one.settle();
    }
    await work;
    expect(written).toBe(appended);
    expect(memory.size).toBeLessThanOrEqual(3);
    expect(most).toBeLessThanOrEqual(3 * MIB);
    expect(most).toBeGreaterThan(2 * MIB);
  });

  test('none of them is written again while it is being written', async () => {
    const { behind, writes } = scripted();
    const bytes = part(3 * MIB, 1);
    await behind.append(bytes.subarray(0, 2 * MIB), 0);
    await behind.append(bytes.subarray(2 * MIB, 3 * MIB - 1), 2 * MIB);
    const next = behind.append(bytes.subarray(3 * MIB - 1), 3 * MIB - 1);
    await turn();
    // Out of order too.
    for (const at of [1, 0, 2]) {
      const write = writes[at];
      const { position = 0, bytes: piece = Buffer.of() } = write ?? {};
      expect(bytes.subarray(position, position + MIB).equals(piece)).toBe(true);
      write?.settle();
    }
    await next;
    await behind.flush();
  });
});

describe('an error of a write', () => {
  const enospc = Object.assign(new Error('full'), { code: 'ENOSPC' });

  test('comes with a later call, and with every one after it', async () => {
    const { behind, writes } = scripted();
    await behind.append(part(MIB, 1), 0);
    writes[0]?.settle(enospc);
    await turn();
    for (let turns = 0; turns < 3; turns++) {
      await expect(behind.append(part(10, 1), MIB)).rejects.toBe(enospc);
    }
    const flushed = expect(behind.flush()).rejects.toBe(enospc);
    await turn();
    for (const { settle } of writes.slice(1)) settle();
    await flushed;
  });

  test('is the first one, with the flush at the latest', async () => {
    const { behind, writes } = scripted();
    await behind.append(part(2 * MIB, 1), 0);
    await behind.append(part(10, 1), 2 * MIB);
    const flushed = expect(behind.flush()).rejects.toBe(enospc);
    await turn();
    writes[2]?.settle(enospc);
    await turn();
    writes[0]?.settle(new Error('another'));
    writes[1]?.settle();
    await flushed;
    await expect(behind.append(Buffer.of(1), 0)).rejects.toBe(enospc);
  });

  test('that waits for a piece does not wait for ever', async () => {
    const { behind, writes } = scripted();
    const work = expect(behind.append(part(4 * MIB, 0), 0)).rejects.toBe(enospc);
    await turn();
    for (let turns = 0; turns < 5; turns++) {
      for (const { settle } of writes.splice(0)) settle(enospc);
      await turn();
    }
    await work;
  });

  test('leaves nothing behind, nor anybody with it', async () => {
    const { behind, writes } = scripted();
    await behind.append(part(2 * MIB, 1), 0);
    for (const { settle } of writes) settle(enospc);
    await turn();
  });
});

const device = smallDevice();

describe.runIf(device !== undefined)('a device that is full', () => {
  const path = join(device ?? '', 'target');

  test('while appending', async () => {
    const work = async () => {
      await using file = await AtomicFile.create(path);
      for (let at = 0; at < 8 * MIB; at += 100_000) await file.append(part(100_000, at));
      await file.commit();
    };
    const error = await refusal(work());
    expect(error).toMatchObject({ code: 'E_IO', actual: 'ENOSPC' });
    expect(error.message).toContain(`cannot write ${path}: no space left on the device`);
    expect(readdirSync(device ?? '')).toEqual([]);
  });

  test.each(['commit', 'read', 'write', 'truncate'] as const)('%s says it', async (call) => {
    await using file = await AtomicFile.create(path);
    // What still fits a piece is not written before.
    await file.hole(5000);
    await file.append(part(MIB - 5000, 1));
    await file.append(part(500_000, 1));
    const calls = {
      commit: () => file.commit(),
      read: () => file.read(Buffer.alloc(1), 0),
      write: () => file.write(Buffer.of(1), 0),
      truncate: () => file.truncate(10),
    };
    const error = await refusal(calls[call]());
    expect(error).toMatchObject({ code: 'E_IO', actual: 'ENOSPC' });
    expect(error.message).toContain(`cannot write ${path}: no space left on the device`);
    // It stays so: the file is not whole.
    if (call !== 'commit') expect((await refusal(file.commit())).actual).toBe('ENOSPC');
    expect(readdirSync(device ?? '')).toEqual([]);
  });
});

test('a limit on the size of files', async () => {
  const url = new URL('../../dist/index.js', import.meta.url).href;
  const script = `
    const { AtomicFile } = await import(${JSON.stringify(url)});
    const file = await AtomicFile.create(process.argv[1]);
    try {
      for (let at = 0; at < 16; at++) await file.append(Buffer.alloc(700_000, 1));
      await file.commit();
      console.log('{}');
    } catch (error) {
      await file.discard();
      console.log(JSON.stringify(error));
    }`;
  // 2 or 4 MiB: the unit is the shell's.
  const limited = 'ulimit -f 4096; exec "$0" --input-type=module -e "$1" "$2"';
  const stdout = await new Promise<string>((resolve, reject) => {
    execFile('sh', ['-c', limited, process.execPath, script, target], (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
  });
  expect(JSON.parse(stdout)).toMatchObject({ code: 'E_IO', actual: 'EFBIG' });
  expect(JSON.parse(stdout).message).toContain(`cannot write ${target}: `);
  expect(readdirSync(folder)).toEqual([]);
});

test('a file that is dropped while it is written leaves nothing', async () => {
  for (let turns = 0; turns < 10; turns++) {
    const file = await AtomicFile.create(target);
    for (let at = 0; at < 5; at++) await file.append(part(900_000, at));
    await file.discard();
    expect(readdirSync(folder)).toEqual([]);
  }
  rmSync(folder, { recursive: true });
});

test('appendBy: what is written beyond the count is no part of the file', async () => {
  const { promises } = await import('node:fs');
  await using file = await AtomicFile.create(target);
  await file.append(part(1000, 1));
  await file.appendBy(async (fd, position) => {
    expect(position).toBe(1000);
    const handle = await promises.open(`/proc/self/fd/${fd}`, 'r+');
    await handle.write(ALL, 0, 5000, position);
    await handle.close();
    return 3000;
  });
  // Zeros are written there, not left out: something stands there already.
  await file.copy(new BufferSource(Buffer.alloc(500)), 0, 500);
  expect(file.position).toBe(4500);
  await file.commit();
  const expected = Buffer.concat([part(1000, 1), ALL.subarray(0, 3000), Buffer.alloc(500)]);
  expect(readFileSync(target).equals(expected)).toBe(true);
});

test('appendBy: a file that is closed says so', async () => {
  const file = await AtomicFile.create(target);
  await file.discard();
  const error = await refusal(file.appendBy(async () => 0));
  expect(error).toMatchObject({ code: 'E_IO', actual: 'EBADF' });
  expect(error.message).toContain(target);
});
