import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { scratch, scratchFile } from './helpers/sources.js';
import { smallGuest } from './helpers/stream.js';

const npm = (args: string[], cwd = '.') =>
  execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

test('the packed package installs in an empty project, with types and command', () => {
  const [packed] = JSON.parse(
    npm(['pack', '--json', '--ignore-scripts', '--pack-destination', scratch()]),
  ) as [{ filename: string; files: { path: string }[] }];
  const paths = packed.files.map(({ path }) => path);
  expect(paths).toContain('dist/index.d.ts');
  expect(paths).toContain('dist/cli/main.js');
  // Only what a user needs, and nothing that runs at installation.
  for (const path of paths) {
    expect(path).toMatch(
      /^(dist\/.*\.(js|d\.ts)|docs\/.*\.md|native\/(prebuilds\/.*\.node|binding\.gyp|src\/.*\.(cc|h))|README\.md|CHANGELOG\.md|LICENSE|package\.json)$/,
    );
  }
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
  for (const name of ['preinstall', 'install', 'postinstall'])
    expect(scripts[name]).toBeUndefined();

  const project = join(scratch(), 'project');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{"name":"p","version":"1.0.0","type":"module"}');
  npm(
    ['install', '--no-audit', '--no-fund', '--prefer-offline', join(scratch(), packed.filename)],
    project,
  );

  writeFileSync(
    join(project, 'use.ts'),
    `import { type ConvertResult, HashPageTable, openHpt } from 'spapr-htab';
     const table: HashPageTable = new HashPageTable(24);
     const order: number | undefined = (null as ConvertResult | null)?.order;
     export const hpt: Promise<{ close(): Promise<void> }> = openHpt('x');
     console.log(table.slots, order);`,
  );
  const tsc = [
    resolve('node_modules/typescript/bin/tsc'),
    '--ignoreConfig',
    '--noEmit',
    '--strict',
  ];
  const types = ['--typeRoots', resolve('node_modules/@types'), '--types', 'node'];
  const options = [
    '--module',
    'NodeNext',
    '--target',
    'ES2022',
    '--lib',
    'ES2023,ESNext.Disposable',
  ];
  execFileSync(process.execPath, [...tsc, ...options, ...types, 'use.ts'], {
    cwd: project,
    stdio: 'inherit',
  });

  writeFileSync(
    join(project, 'run.mjs'),
    `import { HashPageTable, probeHtabFd } from 'spapr-htab';
     console.log(new HashPageTable(24).slots, typeof probeHtabFd().reason);`,
  );
  const run = execFileSync(process.execPath, ['run.mjs'], { cwd: project, encoding: 'utf8' });
  expect(run.trim()).toBe('1048576 string');
  const guest = scratchFile('guest.mig', smallGuest());
  const info = execFileSync('npx', ['spapr-htab', 'info', guest], {
    cwd: project,
    encoding: 'utf8',
  });
  expect(info).toContain('pseries-7.2');
}, 300_000);

test('publint and are-the-types-wrong agree with the package', () => {
  execFileSync('npx', ['publint', '--strict', '--pack', 'false'], { stdio: 'inherit' });
  execFileSync('npx', ['attw', '--pack', '.', '--profile', 'esm-only', '--quiet'], {
    stdio: 'inherit',
    env: { ...process.env, npm_config_ignore_scripts: 'true' },
  });
}, 300_000);
