// Runs the tests of the addon on a build with AddressSanitizer (which finds leaks too) and
// UndefinedBehaviorSanitizer, in native/build-sanitized. Fails on whatever they report, anywhere; shows
// first that they do. Where the compiler has none of them, says so and does nothing.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { copySources, headers, native } from './sources.mjs';

const FLAGS =
  '-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1';

const TESTS = [
  'test/native',
  'test/bytes/addon.test.ts',
  'test/fd/open.test.ts',
  'test/qevm/pass-pages.test.ts',
];

/**
 * Node frees a deferred, of 8 bytes, only together with its promise, which cannot be settled in a thread
 * that is being ended.
 */
const LEAKS_OF_OTHERS = 'leak:napi_create_promise\n';

const require = createRequire(import.meta.url);
const root = join(native, '..');
const folder = join(native, 'build-sanitized');
const reports = join(folder, 'reports');
const compiler = process.env.CXX ?? 'g++';

function run(command, args, env = {}, stdio = 'inherit') {
  const options = { cwd: root, encoding: 'utf8', stdio, env: { ...process.env, ...env } };
  const { status, signal, error, stdout, stderr } = spawnSync(command, args, options);
  if (error) throw error;
  return { status: status ?? signal, output: `${stdout ?? ''}${stderr ?? ''}` };
}

function must(command, args, env) {
  const { status, output } = run(command, args, env, 'pipe');
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed (${status})\n${output}`);
}

/** What was reported since the last time, by any process. */
function reported() {
  const names = readdirSync(reports);
  const text = names.map((name) => readFileSync(join(reports, name), 'utf8')).join('\n');
  for (const name of names) rmSync(join(reports, name));
  return text;
}

function library() {
  // A name without a folder: there is none.
  const { status, stdout } = spawnSync(compiler, ['-print-file-name=libasan.so'], {
    encoding: 'utf8',
  });
  const path = stdout?.trim() ?? '';
  return status === 0 && path.includes('/') && existsSync(path) ? path : undefined;
}

const asan = library();
if (process.platform !== 'linux' || asan === undefined) {
  console.warn(`\n!!! ${compiler} HAS NO libasan: THE ADDON IS NOT TESTED WITH SANITIZERS !!!\n`);
  process.exit();
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(reports, { recursive: true });
const suppressions = join(folder, 'leaks-of-others');
writeFileSync(suppressions, LEAKS_OF_OTHERS);
copyFileSync(join(root, 'test', 'native', 'canary.cc'), join(folder, 'canary.cc'));
copySources(folder, ([target]) => [
  target,
  { ...target, target_name: 'canary', sources: ['canary.cc'] },
]);
const gyp = join(require.resolve('node-gyp'), '..', '..', 'bin', 'node-gyp.js');
must(process.execPath, [gyp, 'rebuild', '-C', folder], {
  ...headers(),
  CXXFLAGS: FLAGS,
  LDFLAGS: FLAGS,
});
const built = (name) => join(folder, 'build', 'Release', `${name}.node`);

const sanitized = {
  LD_PRELOAD: asan,
  SPAPR_HTAB_ADDON: built('spapr_htab'),
  // Leaks: in programs that end in order, which ask for it. Node does not free everything.
  ASAN_OPTIONS: `log_path=${reports}/asan:exitcode=99:detect_leaks=0`,
  LSAN_OPTIONS: `suppressions=${suppressions}:print_suppressions=0`,
  // Its library has no log beside that of the other one: it writes to the standard error, and the
  // process that dies fails its test.
  UBSAN_OPTIONS: 'exitcode=99:print_stacktrace=1',
};

// One program for each kind of mistake, and one that makes none.
for (const [mistake, words] of [
  ['overrun', /heap-buffer-overflow/],
  ['overflow', /signed integer overflow/],
  ['leak', /detected memory leaks/],
  ['nothing', /^$/],
]) {
  const script = `require(${JSON.stringify(built('canary'))}).${mistake}()`;
  const env = { ...sanitized, ASAN_OPTIONS: `${sanitized.ASAN_OPTIONS}:detect_leaks=1` };
  const { status, output } = run(process.execPath, ['-e', script], env, 'pipe');
  const report = reported() + output;
  if (!words.test(report) || (status === 0) !== (mistake === 'nothing')) {
    throw new Error(
      `the sanitizers do not work: ${mistake} gave ${status}, ${report || 'nothing'}`,
    );
  }
}

const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
const { status } = run(process.execPath, [vitest, 'run', ...TESTS, '--maxWorkers=1'], sanitized);
const report = reported();
if (report !== '') console.error(report);
if (status !== 0 || report !== '') process.exitCode = 1;
else console.log('the sanitizers reported nothing');
