import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cached } from './cache.js';
import { execute } from './programs.js';

/** The addons for linux-ppc64, little-endian. */
export interface Addons {
  /** The package's own. */
  readonly native: string;
  /** Of test/kernel/vm/. */
  readonly vm: string;
}

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const NATIVE = fileURLToPath(new URL('../../native', import.meta.url));
const VM = fileURLToPath(new URL('vm', import.meta.url));

/** Compiles both addons; nothing is compiled again whose sources are the same. */
export async function compileAddons(signal?: AbortSignal): Promise<Addons> {
  const [native, vm] = await Promise.all([prebuild(signal), compileVm(signal)]);
  return { native, vm };
}

/** The package's addon as it is shipped. */
async function prebuild(signal: AbortSignal | undefined): Promise<string> {
  const script = join(NATIVE, 'prebuilds.mjs');
  const files = [...(await filesBelow(NATIVE)), script, join(NATIVE, 'binding.gyp')];
  const made = await cached(
    'prebuild',
    [process.version, ...(await inputs(files))],
    async (out) => {
      await run(process.execPath, [script, '--out', out, 'ppc64'], { signal });
    },
  );
  return join(made, 'prebuilds/linux-ppc64/spapr-htab.glibc.node');
}

async function compileVm(signal: AbortSignal | undefined): Promise<string> {
  const headers = ['node-api-headers', 'node-addon-api'].map(
    (name) => (require(name) as { include_dir: string }).include_dir,
  );
  const args = ['-shared', '-fPIC', '-O2', '-std=c++17', '-Wall', '-Wextra', '-DNAPI_VERSION=9'];
  const paths = await filesBelow(VM);
  const made = await cached('vm', [args.join(' '), ...(await inputs(paths))], async (out) => {
    const includes = headers.flatMap((header) => ['-isystem', header]);
    const sources = paths.filter((path) => path.endsWith('.cc'));
    const output = ['-o', join(out, 'vm.node')];
    await execute(
      'powerpc64le-linux-gnu-g++',
      [...args, ...includes, ...sources, ...output],
      signal,
    );
  });
  return join(made, 'vm.node');
}

/** What an addon is made from: files, the compiler and the headers. */
async function inputs(paths: readonly string[]): Promise<(string | Uint8Array)[]> {
  const compiler = await execute('powerpc64le-linux-gnu-g++', ['--version']);
  const contents = await Promise.all(paths.map((path) => readFile(path)));
  return [compiler, ...versions(), ...paths.map((path) => basename(path)), ...contents];
}

/** Cross-compiles a C program's single file to a shared library, with the headers of the system. */
export async function compileLibrary(source: URL, signal?: AbortSignal): Promise<string> {
  const path = fileURLToPath(source);
  const name = `${basename(path, '.c')}.so`;
  const compiler = await execute('powerpc64le-linux-gnu-gcc', ['--version']);
  const args = ['-shared', '-fPIC', '-O2', '-std=c11', '-Wall', '-Wextra', '-Werror'];
  const madeFrom = [compiler, JSON.stringify(args), await readFile(path)];
  const made = await cached(`library-${name}`, madeFrom, async (output) => {
    await execute('powerpc64le-linux-gnu-gcc', [...args, path, '-o', join(output, name)], signal);
  });
  return join(made, name);
}

/** Sources and their headers; not what node-gyp has built there. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true });
  const paths = entries.filter((name) => /\.(cc|h)$/.test(name) && !name.startsWith('build'));
  return paths.sort().map((name) => join(folder, name));
}

function versions(): string[] {
  return ['node-api-headers', 'node-addon-api'].map((name) => {
    const { version } = require(`${name}/package.json`) as { version: string };
    return `${name} ${version}`;
  });
}
