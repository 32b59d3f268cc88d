// Opens descriptors and drops them, in every way there is: what is left open in the end?
// Run with --expose-gc; the addon's file and how many are the arguments.
import { closeSync, openSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setImmediate as turn } from 'node:timers/promises';

const [path, count] = process.argv.slice(2);
const { htab } = createRequire(import.meta.url)(path);
const zero = openSync('/dev/zero', 'r+');
const open = () => readdirSync('/proc/self/fd').length;
const block = new Uint8Array(8);

const ways = {
  dropped: () => undefined,
  closed: (file) => file.close(),
  'closed twice': (file) => {
    file.close();
    file.close();
  },
  'dropped while it is read': (file) => file.read(1000),
  'closed while it is read': (file) => {
    const reading = file.read(1000);
    file.close();
    return reading;
  },
  'dropped while it is written': (file) =>
    Promise.all([file.write(block), file.writeBlocks(block)]),
  'closed while it is written': (file) => {
    const written = [file.write(block), file.writeBlocks(block)];
    file.close();
    return Promise.all(written);
  },
};

// Below what a process may have open: 1024, mostly.
const BATCH = 200;
let opened = 0;
async function round(pending) {
  const uses = Object.values(ways);
  for (let at = 0; at < BATCH; at++) {
    const { file, errno } = htab.duplicate(zero);
    if (errno !== 0) throw new Error(`errno ${errno} after ${opened}`);
    opened++;
    pending.push(uses[opened % uses.length](file));
    // Of what is no VM: the duplicate that the call works with must go too.
    if (opened % 10 === 0) pending.push(htab.open(zero, 0n, 0n));
  }
}

const before = open();
let highest = before;
while (opened < Number(count)) {
  const pending = [];
  await round(pending);
  highest = Math.max(highest, open());
  await Promise.all(pending);
  pending.length = 0;
  globalThis.gc();
  // Finalizers run in a turn of their own.
  await turn();
}
for (let turns = 0; open() > before && turns < 100; turns++) {
  globalThis.gc();
  await turn();
}
const after = open();
closeSync(zero);
console.log(JSON.stringify({ opened, before, highest, after }));
