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
type Conditional = [condition: string, yes: Partial<Target>, no?: Partial<Target>];

const require = createRequire(import.meta.url);
const NATIVE = fileURLToPath(new URL('../../native', import.meta.url));
const VM = fileURLToPath(new URL('vm', import.meta.url));

/** Cross-compiles both addons; nothing is compiled again whose sources are the same. */
export async function compileAddons(signal?: AbortSignal): Promise<Addons> {
  const { sources, defines, cflags_cc } = await nativeTarget();
  const options = [...cflags_cc, ...defines.map((define) => `-D${define}`)];
  const ofVm = (await readdir(VM)).filter((name) => name.endsWith('.cc')).sort();
  const [native, vm] = await Promise.all([
    compile('native', NATIVE, sources, options, signal),
    compile('vm', VM, ofVm, options, signal),
  ]);
  return { native, vm };
}

/** The list of sources and the options are not repeated here. The file is JSON so far. */
async function nativeTarget(): Promise<Target> {
  const gyp = JSON.parse(await readFile(join(NATIVE, 'binding.gyp'), 'utf8'));
  const [target] = gyp.targets as [Target & { conditions?: readonly Conditional[] }];
  const parts: Partial<Target>[] = [target];
  for (const [condition, yes, no = {}] of target.conditions ?? []) {
    if (/^OS\s*==\s*["']linux["']$/.test(condition)) parts.push(yes);
    else if ([yes, no].some((part) => part.sources !== undefined || part.defines !== undefined)) {
      throw new Error(`binding.gyp: not known whether ${condition} holds for linux-ppc64`);
    }
  }
  const all = (key: keyof Target): string[] => parts.flatMap((part) => part[key] ?? []);
  return { sources: all('sources'), defines: all('defines'), cflags_cc: all('cflags_cc') };
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
