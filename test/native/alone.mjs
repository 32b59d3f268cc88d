// Walks over the pages of a file, then does it again where no thread can be started: how many
// threads more than before are there meanwhile, and what comes of it? The addon's file and that of
// pages are the arguments.
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';

const [path, pages] = process.argv.slice(2);
const { walkPages } = createRequire(import.meta.url)(path);
const fd = openSync(pages, 'r');
const threads = () => readdirSync('/proc/self/task').length;
const walk = () => walkPages(fd, 0, 2 ** 53 - 1, 2 ** 53 - 1);

// All threads of the pool are there from then on.
await Promise.all(Array.from({ length: 8 }, walk));
const before = threads();

/** The most threads that were seen, in so many walks or until there was one more. */
async function most(walks) {
  let seen = 0;
  for (let done = 0; done < walks && seen <= before; done++) {
    let ended = false;
    const walking = walk().then(() => {
      ended = true;
    });
    for (let at = 0; at < 20; at++) seen = Math.max(seen, threads());
    while (!ended) await walking;
  }
  return seen - before;
}

const first = await walk();
const helped = await most(5000);
// A stack of this size has no room.
execFileSync('prlimit', ['--pid', String(process.pid), `--stack=${2 ** 47}:`]);
const alone = await most(100);
const second = await walk();
closeSync(fd);
console.log(JSON.stringify({ helped, alone, results: [first, second] }));
