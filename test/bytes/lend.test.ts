import { open } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { LentHandle } from '../../src/bytes/lend.js';
import { scratchFile } from '../helpers/sources.js';

test('closing waits for what is lent, whether that fails or not, and lends no more', async () => {
  const handle = await open(scratchFile('file', Buffer.alloc(1)));
  const { fd } = handle;
  const file = new LentHandle(handle);
  let finish = (): void => undefined;
  let fail = (_: Error): void => undefined;
  const one = file.lend((lent) => new Promise<number>((resolve) => (finish = () => resolve(lent))));
  const other = file.lend(() => new Promise((_, reject) => (fail = reject)));
  other.catch(() => undefined);
  let closed = false;
  const closing = file.close().then(() => (closed = true));
  await expect(file.lend(async () => undefined)).rejects.toMatchObject({ code: 'EBADF' });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  await turn();
  expect(closed).toBe(false);
  finish();
  expect(await one).toBe(fd);
  await turn();
  // Still the same file.
  expect((await handle.stat()).size).toBe(1);
  expect(closed).toBe(false);
  fail(new Error('failed'));
  await expect(other).rejects.toThrow('failed');
  await closing;
  expect(handle.fd).toBe(-1);
  await file.close();
  await expect(file.lend(async () => undefined)).rejects.toMatchObject({ code: 'EBADF' });
});
