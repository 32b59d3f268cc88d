// Bundles what is published into dist/; types are tsc's. A process that loads 200 modules and the
// packages beneath them one by one spends some 110 ms on it before it reads a byte of its input. A VM
// manager calls the command once for each guest.
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { build, transform } from 'esbuild';

const ENTRY = 'src/index.ts';
const COMMAND = 'src/cli/main.ts';
// What only the command uses is bundled: no dependency of those who install this. Packages of the library
// stay where `npm audit` and others can replace them.
const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));

/** From which module the entry has each name. */
const origins = new Map();
for (const [, names, path] of readFileSync(ENTRY, 'utf8').matchAll(
  /^export (?:type )?\{([^}]*)\} from '\.(\/[^']*)'/gm,
)) {
  for (const name of names.split(',')) origins.set(name.replace('type ', '').trim(), `..${path}`);
}

/**
 * The command imports from the entry. esbuild would have each verb load all that the entry names,
 * used or not; so, names are taken from where they are.
 */
const direct = {
  name: 'direct',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]src[\\/]cli[\\/][^\\/]*\.ts$/ }, ({ path }) => {
      const contents = readFileSync(path, 'utf8').replace(
        /^import \{([^}]*)\} from '\.\.\/index\.js';$/gm,
        (_, names) =>
          names
            .split(',')
            .map((name) => name.trim())
            .filter((name) => name !== '' && !name.startsWith('type '))
            .map((name) => {
              const origin = origins.get(name);
              if (origin === undefined) throw new Error(`${path}: ${ENTRY} has no ${name}`);
              return `import { ${name} } from '${origin}';`;
            })
            .join(' ') + names.replace(/[^\n]/g, ''),
      );
      return { contents, loader: 'ts' };
    });
  },
};

const common = {
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  external: Object.keys(dependencies),
  // V8 parses all of a module when it is loaded. Names are kept, for stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  // For `node --enable-source-maps`: lines of src/.
  sourcesContent: false,
  logLevel: 'warning',
};

await build({
  ...common,
  // Another entry for addon/load.ts: it looks for native/ two folders up, as from src/.
  entryPoints: [ENTRY, 'src/addon/load.ts'],
  outbase: 'src',
  chunkNames: 'chunks/[name]-[hash]',
  sourcemap: true,
});

// The command once more, as CommonJS: that is loaded in half the time. All in one folder, so that what
// looks two folders up finds it.
const { metafile, outputFiles } = await build({
  ...common,
  entryPoints: { 'cli/main': COMMAND },
  chunkNames: 'cli/[name]-[hash]',
  sourcemap: 'inline',
  write: false,
  metafile: true,
  plugins: [direct],
  define: { 'import.meta.url': 'urlOfBundle' },
});
mkdirSync('dist/cli', { recursive: true });
for (const { path, text } of outputFiles) {
  const { code, map } = await transform(text, {
    // Named so for how CommonJS packages are imported: as by Node.
    sourcefile: `${basename(path, '.js')}.mjs`,
    format: 'cjs',
    platform: 'node',
    target: 'node20.19',
    supported: { 'dynamic-import': false },
    banner: text.includes('urlOfBundle')
      ? "const urlOfBundle = require('node:url').pathToFileURL(__filename).href;"
      : '',
    minifyWhitespace: true,
    minifySyntax: true,
    sourcemap: 'external',
    sourcesContent: false,
    logLevel: 'warning',
  });
  writeFileSync(path, `${code}//# sourceMappingURL=${basename(path)}.map\n`);
  writeFileSync(`${path}.map`, map);
}
writeFileSync('dist/cli/package.json', '{ "type": "commonjs" }\n');

const folders = new Set(
  Object.values(metafile.outputs)
    .flatMap(({ inputs }) => Object.entries(inputs))
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .flatMap(([path]) => path.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/) ?? []),
);
const notices = [...folders].sort().map((folder) => {
  const { name, version } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
  const license = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
  if (license === undefined) throw new Error(`${folder} has no license that could be published`);
  return `${name} ${version}\n\n${readFileSync(`${folder}/${license}`, 'utf8').trim()}\n`;
});
writeFileSync('dist/LICENSES.txt', notices.join('\n----\n\n'));
chmodSync('dist/cli/main.js', 0o755);
