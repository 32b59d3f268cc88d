import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { scratch, scratchFile } from './helpers/sources.js';
import { smallGuest } from './helpers/stream.js';

const npm = (args: string[], cwd = '.') =>
  execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

/** Without the scripts, which would make dist/ anew while other tests run it. */
const pack = (): Packed =>
  JSON.parse(npm(['pack', '--json', '--ignore-scripts', '--pack-destination', scratch()]))[0];

test('the packed package installs in an empty project, with types and command', () => {
  const packed = pack();
  const paths = packed.files.map(({ path }) => path);
  expect(paths).toContain('dist/index.d.ts');
  expect(paths).toContain('dist/cli/main.js');
  // Only what a user needs, and nothing that runs at installation.
  for (const path of paths) {
    expect(path).toMatch(
      /^(dist\/.*\.(js|js\.map|d\.ts)|dist\/cli\/package\.json|dist\/LICENSES\.txt|docs\/.*\.md|native\/(prebuilds\/.*\.node|binding\.gyp|src\/.*\.(cc|h))|README\.md|CHANGELOG\.md|LICENSE|package\.json)$/,
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

/** By ELF header: e_machine, and the bits of e_flags that tell one ABI from another. */
const PREBUILDS = [
  { arch: 'x64', machine: 62, flags: 0 },
  { arch: 'ppc64', machine: 21, flags: 2 },
  { arch: 'arm64', machine: 183, flags: 0 },
];
/** Whether they can be made here: native/prebuilds.mjs says where. */
const PREBUILT = process.platform === 'linux' && !existsSync('/etc/alpine-release');

test.runIf(PREBUILT)(
  'the addon comes prebuilt, and loads where there is no compiler',
  () => {
    const { prepack } = JSON.parse(readFileSync('package.json', 'utf8')).scripts;
    expect(prepack).toContain('npm run prebuilds');
    const { stderr: said } = spawnSync('npm', ['run', 'prebuilds'], { encoding: 'utf8' });
    const packed = pack();
    const prebuilt = packed.files.map(({ path }) => path).filter((path) => path.endsWith('.node'));
    const expected = PREBUILDS.filter(({ arch }) => !said.includes(`linux-${arch}: NOT BUILT`));
    for (const { arch } of PREBUILDS) {
      if (!expected.some((one) => one.arch === arch)) {
        console.warn(`\n!!! linux-${arch} IS NOT TESTED !!!\n${said}`);
      }
    }
    expect(expected.map(({ arch }) => arch)).toContain(process.arch);
    const fileOf = (arch: string) => `native/prebuilds/linux-${arch}/spapr-htab.glibc.node`;
    expect(prebuilt.sort()).toEqual(expected.map(({ arch }) => fileOf(arch)).sort());

    const project = join(scratch(), 'no-compiler');
    const bin = join(project, 'bin');
    mkdirSync(bin, { recursive: true });
    symlinkSync(process.execPath, join(bin, 'node'));
    symlinkSync('/bin/sh', join(bin, 'sh'));
    writeFileSync(join(project, 'package.json'), '{"name":"p","version":"1.0.0","type":"module"}');
    const env = { ...process.env, PATH: bin, SPAPR_HTAB_ADDON: '' };
    const cli = realpathSync(
      (process.env.PATH ?? '')
        .split(delimiter)
        .map((folder) => join(folder, 'npm'))
        .find((path) => existsSync(path)) ?? '',
    );
    const install = [cli, 'install', '--no-audit', '--no-fund', '--prefer-offline'];
    const options = { cwd: project, encoding: 'utf8', env } as const;
    execFileSync('node', [...install, join(scratch(), packed.filename)], options);
    const installed = join(project, 'node_modules', 'spapr-htab');
    // Deeper than what is exported: which file it is, is nobody's business otherwise.
    const url = pathToFileURL(join(installed, 'dist', 'addon', 'load.js'));
    const script = `import { loadAddon } from ${JSON.stringify(url.href)};
    const { addon, path, failure } = loadAddon();
    console.log(JSON.stringify([path, String(failure), addon?.htab?.duplicate(0).errno]));`;
    writeFileSync(join(project, 'load.mjs'), script);
    const loaded = JSON.parse(execFileSync('node', ['load.mjs'], options));
    expect(loaded).toEqual([join(realpathSync(installed), fileOf(process.arch)), 'undefined', 0]);

    for (const { arch, machine, flags } of expected) {
      const header = readFileSync(join(installed, fileOf(arch))).subarray(0, 64);
      expect(header.subarray(0, 6).toString('latin1'), arch).toBe('\x7fELF\x02\x01');
      expect([header.readUInt16LE(18), header.readUInt32LE(48) & 3], arch).toEqual([
        machine,
        flags,
      ]);
    }
  },
  300_000,
);

test('publint and are-the-types-wrong agree with the package', () => {
  execFileSync('npx', ['publint', '--strict', '--pack', 'false'], { stdio: 'inherit' });
  execFileSync('npx', ['attw', '--pack', '.', '--profile', 'esm-only', '--quiet'], {
    stdio: 'inherit',
    env: { ...process.env, npm_config_ignore_scripts: 'true' },
  });
}, 300_000);
