import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildSync } from 'esbuild';
import { expect, test } from 'vitest';
import { loadAddon } from '../../src/addon/load.js';
import { scratchFile } from '../helpers/sources.js';
import { LINUX } from './support.js';

interface Loaded {
  readonly path?: string;
  readonly failure: string;
  readonly htab: boolean;
  /** What the package says of itself. */
  readonly reason: string;
}

/** What a process of its own loads, with these variables. */
function loaded(variables: Record<string, string>, cwd = '.'): Loaded {
  const [load, index] = ['addon/load.js', 'index.js'].map(
    (name) => new URL(`../../dist/${name}`, import.meta.url).href,
  );
  const script = `
    import { loadAddon } from '${load}';
    import { probeHtabFd } from '${index}';
    const { addon, path, failure } = loadAddon();
    const htab = addon?.htab !== undefined;
    // As if this were the host that it was made for.
    Object.defineProperty(process, 'arch', { value: 'ppc64' });
    const { reason } = probeHtabFd();
    console.log(JSON.stringify({ path, failure: String(failure), htab, reason }));`;
  const args = ['--input-type=module', '-e', script];
  const env = { ...process.env, ...variables };
  return JSON.parse(execFileSync(process.execPath, args, { cwd, env, encoding: 'utf8' }));
}

const path = loadAddon().path ?? '';

test.runIf(LINUX)('says from where', () => {
  expect(path).toBe(
    resolve(process.env.SPAPR_HTAB_ADDON || 'native/build/Release/spapr_htab.node'),
  );
  expect(loaded({})).toMatchObject({ path, failure: 'undefined', htab: true });
});

test.runIf(LINUX)('takes the file that it is told to take', () => {
  const copy = scratchFile('addon.node', readFileSync(path));
  expect(loaded({ SPAPR_HTAB_ADDON: copy })).toMatchObject({ path: copy, htab: true });
  const relative = loaded({ SPAPR_HTAB_ADDON: basename(copy) }, dirname(copy));
  expect(relative).toMatchObject({ path: copy, htab: true });
});

test('takes no other one instead, and says what is wrong with it', () => {
  const missing = scratchFile('missing.node');
  const { failure, reason, ...rest } = loaded({ SPAPR_HTAB_ADDON: missing });
  expect(rest).toEqual({ path: missing, htab: false });
  expect(failure).toContain(missing);
  if (LINUX) expect(reason).toContain('the compiled part of spapr-htab is not there');
});

/** An addon whose exports are what this C gives: Node's exports are its argument. */
function addonOf(name: string, c: string): string {
  const file = scratchFile(name);
  const source = `int napi_get_null(void *env, void **result);
    void *napi_register_module_v1(void *env, void *exports) { ${c} }`;
  // A compiler does not expect a sanitizer beneath it.
  const { LD_PRELOAD: _, ...env } = process.env;
  execFileSync('g++', ['-shared', '-fPIC', '-x', 'c', '-o', file, '-'], {
    env,
    input: source,
  });
  return file;
}

test.runIf(LINUX).each([
  ['JSON', () => scratchFile('null.json', Buffer.from('null'))],
  ['JavaScript', () => scratchFile('addon.cjs', Buffer.from('console.log("executed")'))],
  ['JavaScript of no name', () => scratchFile('addon', Buffer.from('console.log("executed")'))],
  ['nothing', () => scratchFile('empty.node', Buffer.alloc(0))],
  ['a device', () => '/dev/null'],
  ['a folder', () => dirname(scratchFile('in-a-folder'))],
])('is no %s, which is not executed', (_, file) => {
  const named = file();
  // What is executed prints, and then this is no JSON.
  const { failure, reason, ...rest } = loaded({ SPAPR_HTAB_ADDON: named });
  expect(rest).toEqual({ path: named, htab: false });
  expect(failure).toContain(named);
  expect(reason).toContain(failure);
});

test.runIf(LINUX).each([
  ['nothing', 'return exports;'],
  ['null', 'void *null = 0; napi_get_null(env, &null); return null;'],
])('is no addon of others, which exports %s', (_, c) => {
  const other = addonOf('other.node', c);
  const { failure, reason, ...rest } = loaded({ SPAPR_HTAB_ADDON: other });
  expect(rest).toEqual({ path: other, htab: false });
  expect(failure).toBe(
    `Error: ${other} is an addon, but not that of spapr-htab: it has no function \`probe\``,
  );
  expect(reason).toContain(failure);
});

test.runIf(LINUX)('is loaded in every thread, and twice in one', () => {
  // In one file: imported again, what is published shares what it imports itself.
  const { outputFiles } = buildSync({
    entryPoints: ['src/addon/load.ts'],
    bundle: true,
    format: 'esm',
    platform: 'node',
    write: false,
  });
  const file = scratchFile('load.mjs', Buffer.from(outputFiles[0]?.contents ?? []));
  const url = pathToFileURL(file).href;
  const worker = `
    import { parentPort } from 'node:worker_threads';
    const loads = await Promise.all(['', '?again'].map((query) => import('${url}' + query)));
    const addons = loads.map(({ loadAddon }) => loadAddon().addon);
    const [a, b] = addons.map(({ htab }) => htab.duplicate(0).file);
    const taken = addons.map(({ htab }) => htab.receive(a).errno);
    parentPort.postMessage({ two: addons[0] !== addons[1], taken, open: a.fd > 2 && b.fd > 2 });`;
  const script = `
    import { once } from 'node:events';
    import { Worker } from 'node:worker_threads';
    import { loadAddon } from '${url}';
    const url = new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(worker)}));
    const workers = [1, 2, 3].map(() => new Worker(url));
    const said = await Promise.all(workers.map((worker) => once(worker, 'message')));
    console.log(JSON.stringify([typeof loadAddon().addon.probe, ...said.flat()]));`;
  const args = ['--input-type=module', '-e', script];
  const { ENOTSOCK } = constants.errno;
  const each = { two: true, taken: [ENOTSOCK, ENOTSOCK], open: true };
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  const env = { ...process.env, SPAPR_HTAB_ADDON: path };
  const out = execFileSync(process.execPath, args, { encoding: 'utf8', stdio: [...stdio], env });
  expect(JSON.parse(out)).toEqual(['function', each, each, each]);
});

test.runIf(LINUX)('survives one that is for a host of the other byte order', () => {
  // What a big-endian ppc64 host finds as linux-ppc64, the other way round: EI_DATA of its header.
  const bytes = readFileSync(path);
  bytes[5] = 3 - (bytes[5] ?? 0);
  const { failure, reason, htab } = loaded({
    SPAPR_HTAB_ADDON: scratchFile('other-endian.node', bytes),
  });
  expect(htab).toBe(false);
  expect(failure).toMatch(/ELF file data encoding not (little|big)-endian/);
  expect(reason).toContain(failure);
});

test('is switched off', () => {
  const { path, htab, reason } = loaded({ SPAPR_HTAB_NO_ADDON: '1', SPAPR_HTAB_ADDON: '/no.node' });
  expect({ path, htab }).toEqual({ path: undefined, htab: false });
  if (LINUX) expect(reason).toContain('switched off by SPAPR_HTAB_NO_ADDON');
});
