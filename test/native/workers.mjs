// Threads that use the addon, each for what one of the given tasks is, most of them ended at any moment:
// what is left open in the end? The addon's file, how many threads, a seed and tasks are the arguments.
import { closeSync, openSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const AT_ONCE = 4;
const FILES = 100;

/** Milliseconds after its first message, before which a thread is ended; those of others end alone. */
const ENDED_WITHIN = { endless: 15, load: 3, probe: 3, calls: 5 };

if (isMainThread) {
  const [path, threads, seed, ...tasks] = process.argv.slice(2);
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
    const task = tasks[random(tasks.length)];
    const within = ENDED_WITHIN[task];
    const worker = new Worker(new URL(import.meta.url), { workerData: { path, zero, task } });
    worker.on('message', (opened) => {
      result.opened += opened;
    });
    const ended = new Promise((resolve, reject) => {
      worker.once('exit', resolve);
      worker.once('error', reject);
    });
    result.threads++;
    if (within !== undefined) {
      await Promise.race([new Promise((resolve) => worker.once('message', resolve)), ended]);
      await sleep(random(within * 1000) / 1000);
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
  const { path, zero, task } = workerData;
  const load = () => {
    const loaded = { exports: {} };
    process.dlopen(loaded, path);
    return loaded.exports;
  };
  const TASKS = { once: () => use(false), endless: () => use(true), load: loadAgain, probe, calls };
  await TASKS[task]();

  /** Opens descriptors, uses them, and closes none of the last round. */
  async function use(endless) {
    const { htab } = load();
    const files = [];
    const block = new Uint8Array(8);
    const begin = () => {
      const { file } = htab.duplicate(zero);
      if (file === undefined) throw new Error('no more descriptors');
      return [file, htab.open(zero, 0n, 0n), file.read(100_000), file.writeBlocks(block)];
    };
    do {
      const begun = Array.from({ length: FILES }, begin);
      parentPort.postMessage(FILES);
      for (const [file, ...promises] of begun) {
        const done = Promise.all(promises);
        // Some are waited for, and the others are in flight in the next round.
        if (files.length % 3 === 0) await done;
        files.push(file);
      }
      if (endless) for (const file of files.splice(0)) file.close();
    } while (endless);
  }

  function loadAgain() {
    parentPort.postMessage(0);
    for (;;) load();
  }

  function probe() {
    const addon = load();
    parentPort.postMessage(0);
    for (;;) addon.probe();
  }

  /** Every call of the others, as fast as it can be made, with what it takes and what it does not. */
  function calls() {
    const { child, htab, copyRange, passBlocks, walkPages } = load();
    const { file } = htab.duplicate(zero);
    parentPort.postMessage(1);
    const all = [
      () => htab.duplicate(zero).file.close(),
      () => htab.duplicate(-1),
      () => htab.take(process.pid, zero),
      () => child.reopen(-1, 0),
      () => child.pipe({}),
      () => passBlocks(zero, 0, zero, 0, 10, 10, true),
      () => htab.connect('@nobody listens'),
      () => htab.receive(file),
      () => htab.receive({}),
      () => new file.constructor().fd,
      () => file.read(-1),
      () => file.write(new Uint8Array(2 ** 25)),
      () => file.fd,
    ];
    for (let round = 0; ; round++) {
      for (const call of all) {
        try {
          call();
        } catch (error) {
          if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
        }
      }
      // What is in flight must not become too much.
      if (round < 20) {
        void [
          htab.open(zero, 0n, 0n),
          copyRange(zero, 0, zero, 0, 10),
          passBlocks(zero, 0, zero, 0, 10, 10, true, false),
          file.read(10),
          child.reopen(zero, 5),
          walkPages(zero, 0, 2 ** 53 - 1, 10),
        ];
      }
    }
  }
}
