import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { fixture, load } from '../helpers/fixtures.js';
import { scratchFile } from '../helpers/sources.js';
import { smallGuest } from '../helpers/stream.js';

const ROOT = new URL('../../', import.meta.url).href;
const MAIN = fileURLToPath(new URL('dist/cli/main.js', ROOT));
const HOOK = new URL('test/helpers/loads.mjs', ROOT).href;

/** What a command loads of the package, and of which others. */
function loads(...args: string[]): { own: string[]; packages: string[] } {
  const file = scratchFile('loads', Buffer.alloc(0));
  const env = { ...process.env, SPAPR_HTAB_TEST_LOADS: file };
  execFileSync(process.execPath, ['--import', HOOK, MAIN, ...args], { env, stdio: 'pipe' });
  const urls = [...new Set(readFileSync(file, 'utf8').split('\n'))].filter(
    (url) => url.startsWith(ROOT) && url !== HOOK,
  );
  const packages = urls.flatMap((url) => url.match(/node_modules\/((@[^/]+\/)?[^/]+)/)?.[1] ?? []);
  const own = urls.filter((url) => !url.includes('/node_modules/'));
  return { own: own.map((url) => url.slice(ROOT.length)), packages: [...new Set(packages)].sort() };
}

const blocks = () => scratchFile('guest.htab', load(fixture('kvm/p8-guest.bolted.gz')));
const convert = (input: string, output: string) =>
  loads('convert', input, '-o', scratchFile(output), '--order', '24');

test.each(['--version', '--help'])(
  '%s loads two files: the command, and what bundles need',
  (flag) => {
    const { own, packages } = loads(flag);
    expect(own[0]).toBe('dist/cli/main.js');
    expect(own.length).toBeLessThanOrEqual(2);
    expect(packages).toEqual([]);
  },
);

test('a verb loads the packages that its input and output need', () => {
  const plain = convert(blocks(), 'guest.section');
  // It finds the addon.
  expect(plain.packages).toEqual(['node-gyp-build']);
  // Of some 200 modules in src/.
  expect(plain.own.length).toBeLessThan(30);
  expect(loads('info', blocks()).packages).toEqual([]);
  expect(convert(blocks(), 'guest.msgpack').packages).toEqual(['@msgpack/msgpack', 'valibot']);
  const guest = scratchFile('guest.mig', smallGuest());
  expect(loads('info', guest).packages).toEqual([]);
});
