import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

interface Locked {
  readonly version: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly hasInstallScript?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
}

const read = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
const { packages } = read('package-lock.json') as { packages: Record<string, Locked> };
const locked = Object.entries(packages).filter(([path]) => path !== '');
/** What an installation of this package brings. */
const atRunTime = locked.filter(([, { dev, devOptional }]) => !dev && !devOptional);

test('every locked package has a hash, and comes from the registry', () => {
  expect(locked.length).toBeGreaterThan(100);
  for (const [path, { integrity, resolved }] of locked) {
    expect(integrity, path).toMatch(/^sha512-[A-Za-z0-9+/]{86}==$/);
    // Left out where it is the registry that npm is set to.
    if (resolved !== undefined) expect(resolved).toMatch(/^https:\/\/registry\.npmjs\.org\//);
  }
});

test('the packages at run time are those that are named, without dependencies and scripts', () => {
  const { dependencies } = read('package.json') as { dependencies: Record<string, string> };
  const named = Object.keys(dependencies).map((name) => `node_modules/${name}`);
  expect(atRunTime.map(([path]) => path).sort()).toEqual(named.sort());
  expect(named.length).toBe(5);
  for (const [path, { dependencies, hasInstallScript }] of atRunTime) {
    expect(dependencies, path).toBeUndefined();
    expect(hasInstallScript, path).toBeUndefined();
  }
});

test('only one package wants a script at its installation, and CI runs none', () => {
  const wanting = locked.filter(([, { hasInstallScript }]) => hasInstallScript);
  expect(wanting.map(([path]) => path)).toEqual(['node_modules/esbuild']);
  const ci = readFileSync('.ci/run', 'utf8');
  expect(ci.match(/npm ci\b.*/g)).toEqual([expect.stringContaining('--ignore-scripts')]);
});
