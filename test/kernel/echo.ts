/** Runs inside: shows what it was given, runs the command line interface, ends as it was told. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

const { SPAPR_HTAB_FILES: files, SPAPR_HTAB_RESULTS: results, SPAPR_HTAB_CLI: cli } = process.env;
const [status, ...words] = process.argv.slice(2);

const text = readFileSync(`${files}/a folder/text`, 'utf8');
console.log(JSON.stringify({ words, gc: typeof gc, text }));
console.error('to stderr');
const info = [String(cli), 'info', '--json', `${files}/snapshot`];
writeFileSync(`${results}/info.json`, spawnSync(process.execPath, info).stdout);
process.exitCode = Number(status);
