import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached } from './cache.js';
import { execute } from './programs.js';

/** The addons for linux-ppc64, little-endian. */
export interface Addons {
  /** The package's own. */
  readonly native: string;
  /** Of test/kernel/vm/. */
  readonly vm: string;
}

/** What of a target of binding.gyp is used here. */
interface Target {
  readonly sources: readonly string[];
  readonly defines: readonly string[];
  readonly cflags_cc: readonly string[];
}

const require = createRequire(import.meta.url);
const NATIVE = fileURLToPath(new URL('../../native', import.meta.url));
const VM = fileURLToPath(new URL('vm', import.meta.url));

/** Cross-compiles both addons; nothing is compiled again whose sources are the same. */
export async function compileAddons(signal?: AbortSignal): Promise<Addons> {
  const { sources, defines, cflags_cc } = await nativeTarget();
  const options = [...cflags_cc, ...defines.map((define) => `-D${define}`)];
  const vm = (await readdir(VM)).filter((name) => name.endsWith('.cc')).sort();
  return {
    native: await compile('native', NATIVE, sources, options, signal),
    vm: await compile('vm', VM, vm, options, signal),
  };
}

async function nativeTarget(): Promise<Target> {
  const gyp = JSON.parse(await readFile(join(NATIVE, 'binding.gyp'), 'utf8'));
  const target = gyp.targets[0];
  // What a condition adds would be missed here.
  for (const [condition, yes, no] of target.conditions ?? []) {
    for (const part of [yes, no]) {
      if (part?.sources !== undefined || part?.defines !== undefined) {
        throw new Error(`binding.gyp: sources or defines under the condition ${condition}`);
      }
    }
  }
  return target;
}

async function compile(
  name: string,
  folder: string,
  sources: readonly string[],
  options: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const headers = [
    (require('node-api-headers') as { include_dir: string }).include_dir,
    (require('node-addon-api') as { include_dir: string }).include_dir,
  ];
  const compiler = await execute('powerpc64le-linux-gnu-g++', ['--version']);
  const args = ['-shared', '-fPIC', '-O2', ...options];
  const paths = await filesBelow(folder);
  const contents = await Promise.all(paths.map((path) => readFile(path)));
  const made = await cached(
    `addon-${name}`,
    [compiler, JSON.stringify([args, sources, paths, versions()]), ...contents],
    async (output) => {
      await execute(
        'powerpc64le-linux-gnu-g++',
        [
          ...args,
          ...headers.flatMap((header) => ['-isystem', header]),
          ...sources.map((source) => join(folder, source)),
          '-o',
          join(output, `${name}.node`),
        ],
        signal,
      );
    },
  );
  return join(made, `${name}.node`);
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
