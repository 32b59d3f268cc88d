// Builds the addon for every platform that it is shipped for, into native/prebuilds, where
// node-gyp-build looks for it: as far as compilers are installed, and says which are not. Needs Linux
// with glibc; says what it did on the standard error, since npm's own answers go to the other.
// `--out DIR ARCH...`: into DIR/prebuilds, and for these only.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { copySources, headers, native } from './sources.mjs';

/** `arch` as Node names it: ppc64 is little-endian here. `loader`: that of glibc, by its soname. */
const TARGETS = [
  { arch: 'x64', triplet: 'x86_64-linux-gnu', loader: 'ld-linux-x86-64.so.2' },
  { arch: 'ppc64', triplet: 'powerpc64le-linux-gnu', loader: 'ld64.so.2' },
  { arch: 'arm64', triplet: 'aarch64-linux-gnu', loader: 'ld-linux-aarch64.so.1' },
];

/**
 * The newest versions of symbols that Node's own binaries of version 20 need (`objdump -T`): what
 * needs no newer ones loads wherever these run. So the C++ library is shared, as it is by Node; inside
 * the addon it would need glibc 2.36, for unwinding and random numbers that nothing here uses.
 */
const NEWEST = { GLIBC: '2.28', GLIBCXX: '3.4.21', CXXABI: '1.3.9', GCC: '4.3.0' };

const require = createRequire(import.meta.url);
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { out: { type: 'string', default: native } },
});
const out = resolve(values.out);

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')} failed\n${error ?? ''}${stdout}${stderr}`);
}

function compilerOf({ arch, triplet }) {
  const names = [`${triplet}-g++`, ...(arch === process.arch ? ['g++'] : [])];
  return names.find((name) => spawnSync(name, ['--version']).status === 0);
}

function build({ arch, triplet, loader }, compiler) {
  // A folder of its own: a build that is in use here stays as it is.
  const folder = mkdtempSync(join(native, 'build-prebuilds-'));
  try {
    copySources(folder);
    const strip = compiler === 'g++' ? 'strip' : `${triplet}-strip`;
    const args = ['--napi', '--target', process.versions.node, '--name', 'spapr-htab'];
    args.push('--platform', 'linux', '--arch', arch, '--tag-libc', '--out', out);
    args.push('--strip', '--strip-bin', strip);
    run(process.execPath, [join(require.resolve('prebuildify'), '..', 'bin.js'), ...args], {
      cwd: folder,
      env: {
        ...process.env,
        ...headers(),
        CC: compiler.replace(/g\+\+$/, 'gcc'),
        CXX: compiler,
        // musl takes its own C library for glibc's, but has no loader of that name: there, loading
        // fails with a reason, not in the middle of something.
        LDFLAGS: `-Wl,--no-as-needed -l:${loader} -Wl,--as-needed`,
      },
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
  return join(out, 'prebuilds', `linux-${arch}`, 'spapr-htab.glibc.node');
}

const isNewer = (version, than) =>
  version.localeCompare(than, undefined, { numeric: true, sensitivity: 'base' }) > 0;

/** The newest version of each library's symbols that a file needs. */
function needs(file) {
  const newest = {};
  const listed = run('readelf', ['--version-info', '--wide', file]);
  for (const [, library, version] of listed.matchAll(/Name: ([A-Z]+)_([\d.]+)/g)) {
    if (isNewer(version, newest[library] ?? '0')) newest[library] = version;
  }
  return newest;
}

if (process.platform !== 'linux' || !process.report.getReport().header.glibcVersionRuntime) {
  throw new Error('prebuilt addons are made on Linux with glibc');
}
for (const target of TARGETS) {
  if (positionals.length > 0 && !positionals.includes(target.arch)) continue;
  const name = `linux-${target.arch}`;
  // What was built before must not be taken for what cannot be built now.
  rmSync(join(out, 'prebuilds', name), { recursive: true, force: true });
  const compiler = compilerOf(target);
  if (compiler === undefined) {
    console.error(`${name}: NOT BUILT: no ${target.triplet}-g++ (g++-${target.triplet})`);
    continue;
  }
  const file = build(target, compiler);
  const needed = needs(file);
  console.error(`${name}: built by ${compiler}, needs ${JSON.stringify(needed)}`);
  for (const [library, version] of Object.entries(needed)) {
    if (isNewer(version, NEWEST[library] ?? '0')) {
      throw new Error(`${file} needs ${library}_${version}, which Node itself does not`);
    }
  }
}
