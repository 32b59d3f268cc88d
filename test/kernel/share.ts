import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Addons } from './cross.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** What loads the addon (src/addon/load.ts). */
const NOT_BUNDLED = ['node-gyp-build'];

/** What is to be run inside. */
export interface Job {
  /** A TypeScript program of the repository; path. */
  readonly entry: string;
  readonly args: readonly string[];
  readonly nodeFlags: readonly string[];
  /** What the program finds in the folder SPAPR_HTAB_FILES: contents, or paths of the host. */
  readonly files: Readonly<Record<string, string | URL | Uint8Array>>;
}

/**
 * The node that the guest has may be older than the one that the package is written for; and of what
 * is bundled, some is CommonJS.
 */
const BANNER = `import { createRequire as createRequireOfBanner } from 'node:module';
const require = createRequireOfBanner(import.meta.url);
Symbol.dispose ??= Symbol.for('nodejs.dispose');
Symbol.asyncDispose ??= Symbol.for('nodejs.asyncDispose');
`;

/**
 * Fills a folder with a package as it is installed, with its prebuilt addon for linux-ppc64, but with
 * programs that are bundles: the entry, and the command line interface. The guest reads one large file
 * far quicker than many small ones.
 */
export async function fillShare(share: string, job: Job, addons: Addons): Promise<void> {
  const place = join(share, 'package');
  await build({
    entryPoints: { 'kernel/program': job.entry, 'cli/main': join(ROOT, 'src/cli/main.ts') },
    outdir: join(place, 'dist'),
    absWorkingDir: ROOT,
    bundle: true,
    platform: 'node',
    target: 'node18',
    format: 'esm',
    external: [...NOT_BUNDLED],
    alias: { 'spapr-htab': join(ROOT, 'src/index.ts') },
    banner: { js: BANNER },
    logLevel: 'error',
  });
  const copies = [
    [join(ROOT, 'package.json'), join(place, 'package.json')],
    ...NOT_BUNDLED.map((name) => {
      const folder = join('node_modules', name);
      return [join(ROOT, folder), join(place, folder)] as const;
    }),
    [addons.native, join(place, 'native/prebuilds/linux-ppc64/spapr-htab.glibc.node')],
    [addons.vm, join(share, 'vm.node')],
  ] as const;
  for (const [from, to] of copies) await cp(from, to, { recursive: true });
  const files = join(share, 'files');
  for (const folder of [files, join(share, 'results')]) await mkdir(folder);
  for (const [name, content] of Object.entries(job.files)) {
    const path = join(files, name);
    await mkdir(dirname(path), { recursive: true });
    if (content instanceof Uint8Array) await writeFile(path, content);
    else await cp(content, path, { recursive: true });
  }
  await writeFile(join(share, 'job.sh'), script(job));
}

/** The share is at /mnt there. */
function script({ args, nodeFlags }: Job): string {
  const environment = {
    PATH: '/usr/bin:/bin',
    HOME: '/tmp',
    SPAPR_HTAB_FILES: '/mnt/files',
    SPAPR_HTAB_RESULTS: '/mnt/results',
    SPAPR_HTAB_CLI: '/mnt/package/dist/cli/main.js',
    SPAPR_HTAB_VM_ADDON: '/mnt/vm.node',
  };
  const program = '/mnt/package/dist/kernel/program.js';
  const command = ['node', ...nodeFlags, program, ...args].map(quoted).join(' ');
  const lines = Object.entries(environment).map(([name, value]) => `export ${name}=${value}`);
  return [...lines, 'cd /tmp', `exec ${command}`, ''].join('\n');
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** What the program has put into the folder SPAPR_HTAB_RESULTS. */
export async function readResults(share: string): Promise<Map<string, Buffer>> {
  const folder = join(share, 'results');
  const results = new Map<string, Buffer>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    results.set(path.slice(folder.length + 1), await readFile(path));
  }
  return results;
}
