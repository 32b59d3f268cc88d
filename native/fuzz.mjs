// Runs what the addon does with the content of files under libFuzzer, with AddressSanitizer and
// UndefinedBehaviorSanitizer, and compares it with plain models (test/fuzz/native). Shows first that a
// difference is found. Where there is no clang with libFuzzer, says so and does nothing.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { native } from './sources.mjs';

const { values } = parseArgs({
  options: {
    /** Of each program. */
    seconds: { type: 'string', default: '30' },
    seed: { type: 'string', default: '1' },
  },
});
for (const name of ['seconds', 'seed']) {
  if (!/^[1-9]\d*$/.test(values[name])) throw new Error(`--${name} takes whole numbers from 1`);
}

/** Programs, and the sources of the addon that each is built with. */
const PROGRAMS = {
  'block-passer': ['block-passer', 'behind-writer', 'file-io'],
  'page-walker': ['page-walker', 'bus-guard', 'file-io'],
};
const FLAGS = ['-std=c++17', '-g', '-O1', '-pthread'];
const SANITIZERS = ['-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all'];
const LONGEST = 1024;

const tests = join(native, '..', 'test', 'fuzz', 'native');
const cache = join(native, '..', 'test', '.cache', 'fuzz-native');
const folder = join(native, 'build-fuzz');
const compiler = process.env.CLANGXX ?? 'clang++';

function run(command, args) {
  const { status, signal, error, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return { status: error === undefined ? (status ?? signal) : error.code, text: stderr ?? '' };
}

function build(name, more = []) {
  const program = join(folder, `${name}${more.length > 0 ? '-staged' : ''}`);
  const sources = PROGRAMS[name].map((source) => join(native, 'src', `${source}.cc`));
  const own = join(tests, `${name}.cc`);
  const { status, text } = run(compiler, [
    ...FLAGS,
    ...SANITIZERS,
    ...more,
    own,
    ...sources,
    '-o',
    program,
  ]);
  if (status !== 0) throw new Error(`${name} cannot be built (${status})\n${text}`);
  return program;
}

function fuzz(program, corpus, seconds) {
  const found = join(cache, 'found/');
  mkdirSync(corpus, { recursive: true });
  mkdirSync(found, { recursive: true });
  return run(program, [
    corpus,
    `-max_total_time=${seconds}`,
    `-max_len=${LONGEST}`,
    `-seed=${values.seed}`,
    `-artifact_prefix=${found}`,
    '-timeout=10',
    '-rss_limit_mb=1024',
    '-print_final_stats=1',
  ]);
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const probe = ['-fsanitize=fuzzer,address', '-x', 'c++', '-o', join(folder, 'probe'), '-'];
const { status } = spawnSync(compiler, probe, {
  input: 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }',
});
if (process.platform !== 'linux' || status !== 0) {
  console.warn(`\n!!! ${compiler} HAS NO libFuzzer: THE ADDON IS NOT FUZZED !!!\n`);
  process.exit();
}

for (const name of Object.keys(PROGRAMS)) {
  const corpus = join(cache, name);
  // A model that is wrong about one value of one field: neither chance nor a crash finds that.
  const staged = fuzz(build(name, ['-DSTAGED_FAULT']), mkdtempSync(join(folder, 'corpus-')), 150);
  if (staged.status === 0 || !staged.text.includes('by the plain model')) {
    throw new Error(`${name}: a difference that is there was not found\n${staged.text}`);
  }
  const { status, text } = fuzz(build(name), corpus, values.seconds);
  const runs = /number_of_executed_units:\s*(\d+)/.exec(text)?.[1];
  const covered = [...text.matchAll(/cov: (\d+)/g)].at(-1)?.[1];
  if (status === 0) {
    const kept = readdirSync(corpus).length;
    console.log(`${name}: ${runs} inputs in ${values.seconds} s, ${covered} edges, ${kept} kept`);
  } else {
    console.error(text.slice(-8000));
    console.error(`${name}: FOUND something; the input is in ${cache}`);
    process.exitCode = 1;
  }
}
