import { existsSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import { scratch } from '../helpers/sources.js';
import { cached } from './cache.js';

const root = () => mkdtemp(join(scratch(), 'cache-'));

function writing(content: string): (folder: string) => Promise<void> {
  return async (folder) => writeFileSync(join(folder, 'file'), content);
}

const unwanted = async (): Promise<void> => {
  throw new Error('built again');
};

test('what is made from the same is built once', async () => {
  const cache = await root();
  const first = await cached('a', ['x', Buffer.from('y')], writing('1'), cache);
  expect(await cached('a', ['x', 'y'], unwanted, cache)).toBe(first);
  for (const other of [['xy'], ['x', 'y', ''], ['x', 'z']]) {
    expect(await cached('a', other, writing('2'), cache)).not.toBe(first);
  }
  expect(await cached('b', ['x', 'y'], writing('3'), cache)).not.toBe(first);
});

test('a build that fails leaves nothing, and one that was killed is not taken for whole', async () => {
  const cache = await root();
  await expect(cached('a', ['x'], unwanted, cache)).rejects.toThrow('built again');
  expect(readdirSync(cache)).toEqual([]);
  let part = '';
  const killed = cached(
    'a',
    ['x'],
    async (folder) => {
      part = folder;
      writeFileSync(join(folder, 'file'), 'hal');
      await new Promise(() => {});
    },
    cache,
  );
  void killed;
  await expect.poll(() => part).not.toBe('');
  const whole = await cached('a', ['x'], writing('whole'), cache);
  expect(readdirSync(cache).sort()).toEqual([basename(part), basename(whole)].sort());
  // Of a run that is long over.
  utimesSync(part, 0, 0);
  await cached('a', ['y'], writing('other'), cache);
  expect(existsSync(part)).toBe(false);
});

test('two that build the same at once get the same', async () => {
  const cache = await root();
  const both = await Promise.all([1, 2].map((n) => cached('a', ['x'], writing(`${n}`), cache)));
  expect(both[0]).toBe(both[1]);
  expect(readdirSync(cache)).toHaveLength(1);
});
