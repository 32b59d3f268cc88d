import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { scratch } from '../helpers/sources.js';
import { installMissing, PACKAGES, whatIsMissing } from './programs.js';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

/**
 * A host with these programs alone, and mke2fs if this one has it. Its apt-get puts down what it is
 * told, and makes a program of each name in `makes`.
 */
async function host(programs: readonly string[], makes: readonly string[] = []) {
  const folder = await mkdtemp(join(scratch(), 'host-'));
  const told = join(folder, 'told');
  for (const name of programs) symlinkSync('/bin/true', join(folder, name));
  const made = makes.map((name) => `/bin/ln -sf /bin/true ${join(folder, name)}\n`).join('');
  const apt = `#!/bin/sh\necho "$DEBIAN_FRONTEND $@" >> ${told}\n[ $1 = install ] || exit 100\n${made}`;
  writeFileSync(join(folder, 'apt-get'), apt, { mode: 0o755 });
  vi.stubEnv('PATH', folder);
  return { told: () => readFileSync(told, 'utf8').trimEnd().split('\n') };
}

const uid = (id: number) =>
  vi.spyOn(process as Required<typeof process>, 'getuid').mockReturnValue(id);

const ALL = Object.keys(PACKAGES).filter((name) => name !== 'apt-get');
const LACKING = ['make', 'python3', 'powerpc64le-linux-gnu-g++'];
const HAVE = ALL.filter((name) => !LACKING.includes(name));

test('nothing is installed where nothing is missing', async () => {
  uid(0);
  const { told } = await host(ALL);
  expect(whatIsMissing()).toBeUndefined();
  await installMissing(() => expect.unreachable());
  expect(told).toThrow('ENOENT');
});

test('root installs what is missing, though a mirror cannot be reached, and says so', async () => {
  uid(0);
  const { told } = await host(HAVE, LACKING);
  const packages = 'make python3 g++-powerpc64le-linux-gnu';
  expect(whatIsMissing()).toBe(`apt-get install ${packages}`);
  const said: string[] = [];
  await installMissing((what) => said.push(what));
  expect(said[0]).toContain(`installing ${packages.replaceAll(' ', ', ')} with apt-get`);
  expect(told()).toEqual([
    'noninteractive update -q',
    `noninteractive install -q -y --no-install-recommends ${packages}`,
  ]);
  expect(whatIsMissing()).toBeUndefined();
});

test('what is missing nevertheless is named', async () => {
  uid(0);
  await host(HAVE, ['make']);
  const what = /still missing.*: apt-get install python3 g\+\+-powerpc64le-linux-gnu/;
  await expect(installMissing(() => {})).rejects.toThrow(what);
});

test('others are told what to type', async () => {
  uid(1000);
  const { told } = await host(HAVE);
  const what = 'only root may do this: apt-get install make python3 g++-powerpc64le-linux-gnu';
  await expect(installMissing(() => expect.unreachable())).rejects.toThrow(what);
  expect(told).toThrow('ENOENT');
});

test('.ci/run installs the same packages, or is run where they are', () => {
  const ci = readFileSync(new URL('../../.ci/run', import.meta.url), 'utf8');
  const installed = new Map(
    [...ci.matchAll(/(?<= )([\w+-]+):([\w+-]+)(?=[ ;\n])/g)].map(([, program, name]) => [
      program,
      name,
    ]),
  );
  // apt itself, and what comes with a compiler for addons, which it says it needs.
  const given = ['apt-get', 'dpkg', 'make', 'python3', 'readelf'];
  for (const [program, name] of Object.entries(PACKAGES)) {
    if (!given.includes(program)) expect(installed.get(program), program).toBe(name);
  }
});
