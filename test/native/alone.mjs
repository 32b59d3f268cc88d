// Passes the blocks of a file into another, then does it again where no thread can be started: how many
// threads more than before are there meanwhile, and what comes of it? The addon's file and both files
// are the arguments.
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';

const [path, blocks, output] = process.argv.slice(2);
const { passBlocks } = createRequire(import.meta.url)(path);
const from = openSync(blocks, 'r');
const to = openSync(output, 'w');
const MOST = 2 ** 53 - 1;
const threads = () => readdirSync('/proc/self/task').length;
const pass = () => passBlocks(from, 0, to, 0, MOST, MOST, false, true);

// All threads of the pool are there from then on.
await Promise.all(Array.from({ length: 8 }, pass));
const before = threads();

/** The most threads that were seen, in so many calls or until there was one more. */
async function most(calls) {
  let seen = 0;
  for (let done = 0; done < calls && seen <= before; done++) {
    let ended = false;
    const passing = pass().then(() => {
      ended = true;
    });
    for (let at = 0; at < 20; at++) seen = Math.max(seen, threads());
    while (!ended) await passing;
  }
  return seen - before;
}

const first = await pass();
const helped = await most(5000);
// A stack of this size has no room.
execFileSync('prlimit', ['--pid', String(process.pid), `--stack=${2 ** 47}:`]);
const alone = await most(100);
const second = await pass();
closeSync(from);
closeSync(to);
console.log(JSON.stringify({ helped, alone, results: [first, second] }));
