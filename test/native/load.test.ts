import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
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
