// Walks over the pages of a file, and over as many of one that is half as long by then; says how many
// each walk has passed. Then the process gets the signal SIGBUS from elsewhere. The addon's file, that of
// pages and what else listens to the signal are the arguments.
import { openSync, truncateSync } from 'node:fs';
import { createRequire } from 'node:module';

const [path, file, ...words] = process.argv.slice(2);
const { walkPages } = createRequire(import.meta.url)(path);
const fd = openSync(file, 'r+');
const length = 500 * 4104;
let told = 0;
const listen = () => {
  told++;
};

if (words.includes('before')) process.on('SIGBUS', listen);
const { pages } = await walkPages(fd, 0, length, 2 ** 53 - 1);
if (words.includes('removed')) process.off('SIGBUS', listen);
if (words.includes('after')) process.on('SIGBUS', listen);
truncateSync(file, length / 2);
const { pages: left } = await walkPages(fd, 0, length, 2 ** 53 - 1);
process.stdout.write(`${pages} ${left}`);
process.kill(process.pid, 'SIGBUS');
setTimeout(() => process.stdout.write(` told ${told}`), 100);
