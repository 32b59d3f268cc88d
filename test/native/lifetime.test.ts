import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/addon/load.js';
import { descriptors, handed, LINUX, until } from './support.js';

/** What a program of this folder prints, in a process of its own. */
async function run(program: string, args: readonly unknown[], flags: readonly string[] = []) {
  const script = fileURLToPath(new URL(program, import.meta.url));
  const { path } = loadAddon();
  const command = [...flags, script, String(path), ...args.map(String)];
  // On a build with AddressSanitizer, memory is not left allocated either.
  const { ASAN_OPTIONS: sanitizer = '', ...env } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, command, {
    env: { ...env, ASAN_OPTIONS: `${sanitizer}:detect_leaks=1` },
  });
  return JSON.parse(stdout);
}

describe.runIf(LINUX)('no descriptor is left open', () => {
  test('by 20,000 files that are closed, or dropped, with calls in flight or not', async () => {
    const { opened, before, highest, after } = await run('drop.mjs', [20_000], ['--expose-gc']);
    expect(opened).toBeGreaterThanOrEqual(20_000);
    expect(highest).toBeGreaterThan(before + 100);
    expect(after).toBe(before);
  });

  test.each([1, 2])('by threads that are ended at any moment (seed %i)', async (seed) => {
    const { threads, terminated, opened, before, after } = await run('workers.mjs', [
      ...[60, seed, 'once', 'endless', 'endless', 'endless'],
    ]);
    expect(threads).toBeGreaterThanOrEqual(60);
    expect(terminated).toBeGreaterThan(20);
    expect(opened).toBeGreaterThan(5000);
    expect(after).toBe(before);
  });

  // None of these threads may take the process with it: an exception of C++ that meets one would.
  test.each([
    ['loads the addon', 'load'],
    ['asks for what the host has', 'probe'],
    ['makes every other call', 'calls'],
  ])('by a thread that is ended while it %s', async (_, task) => {
    const { threads, terminated, before, after } = await run('workers.mjs', [60, 1, task]);
    expect(threads).toBeGreaterThanOrEqual(60);
    expect(terminated).toBe(threads);
    expect(after).toBe(before);
  });

  test('by a thread that is ended while a call waits for another process', async () => {
    const { file, ask } = await handed('pipe(0)');
    const name = descriptors().get(file.fd);
    const ours = () => [...descriptors().values()].filter((what) => what === name).length;
    expect(ours()).toBe(1);
    const script = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { file } = require(workerData.path).htab.duplicate(workerData.fd);
      file.read(100);
      parentPort.postMessage('reading');`;
    const { path } = loadAddon();
    const worker = new Worker(script, { eval: true, workerData: { path, fd: file.fd } });
    await new Promise((resolve) => worker.once('message', resolve));
    expect(ours()).toBe(2);
    const ended = worker.terminate();
    // The call still has its file, and its memory, whatever becomes of the thread.
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ours()).toBe(2);
    await ask('put("00")');
    await ended;
    await until(() => ours() === 1);
  });
});
