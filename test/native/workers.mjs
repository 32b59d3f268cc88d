// Threads that open descriptors, use them and close none, some of them ended at any moment: what is
// left open in the end? The addon's file, how many threads and a seed are the arguments.
import { closeSync, openSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const AT_ONCE = 4;
const FILES = 100;

if (isMainThread) {
  const [path, threads, seed] = process.argv.slice(2);
  // Here too: the addon is of several environments at once.
  createRequire(import.meta.url)(path);
  const zero = openSync('/dev/zero', 'r+');
  const open = () => readdirSync('/proc/self/fd').length;
  let state = Number(seed);
  const random = (most) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
  const result = { threads: 0, terminated: 0, opened: 0 };

  async function thread() {
    const endless = random(4) > 0;
    const worker = new Worker(new URL(import.meta.url), { workerData: { path, zero, endless } });
    worker.on('message', (opened) => {
      result.opened += opened;
    });
    const ended = new Promise((resolve, reject) => {
      worker.once('exit', resolve);
      worker.once('error', reject);
    });
    result.threads++;
    if (endless) {
      await new Promise((resolve) => worker.once('message', resolve));
      await sleep(random(15));
      await worker.terminate();
      result.terminated++;
    }
    await ended;
  }

  // One that stays, so that what Node itself opens for threads is open before and after.
  await thread();
  const before = open();
  while (result.threads < Number(threads)) {
    await Promise.all(Array.from({ length: AT_ONCE }, thread));
  }
  const after = open();
  closeSync(zero);
  console.log(JSON.stringify({ ...result, before, after }));
} else {
  const { path, zero, endless } = workerData;
  const { htab } = createRequire(import.meta.url)(path);
  const files = [];
  const block = new Uint8Array(8);
  const use = () => {
    const { file } = htab.duplicate(zero);
    if (file === undefined) throw new Error('no more descriptors');
    return [file, htab.open(zero, 0n, 0n), file.read(100_000), file.writeBlocks(block)];
  };
  do {
    const calls = Array.from({ length: FILES }, use);
    parentPort.postMessage(FILES);
    for (const [file, ...promises] of calls) {
      const done = Promise.all(promises);
      // Some are waited for, and the others are in flight in the next round.
      if (files.length % 3 === 0) await done;
      files.push(file);
    }
    if (endless) for (const file of files.splice(0)) file.close();
  } while (endless);
}
