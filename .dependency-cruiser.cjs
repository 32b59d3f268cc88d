/**
 * Data flows container → bytes → stream → section → HPT. Nothing imports what stands above it:
 * each folder may import itself and the ones listed.
 */
const layers = {
  addon: [],
  bytes: ['addon'],
  container: ['bytes'],
  qevm: ['bytes'],
  htab: ['bytes'],
  archive: ['bytes', 'htab'],
  snapshot: ['bytes', 'qevm', 'htab'],
  formats: ['bytes', 'htab', 'archive'],
  memory: ['bytes', 'qevm', 'htab', 'snapshot'],
  devices: ['bytes', 'qevm'],
  rewrite: ['bytes', 'container', 'qevm', 'htab', 'snapshot'],
  compat: ['bytes', 'qevm', 'devices'],
  fd: ['addon', 'bytes', 'htab'],
};

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, path: '^src/' }, to: {} },
    ...Object.entries(layers).map(([folder, below]) => ({
      name: `${folder}-imports-only-below`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: {
        path: '^src/',
        pathNot: `^src/((errors|limits|printable)\\.ts|(${[folder, ...below].join('|')})/)`,
      },
    })),
    {
      name: 'cli-uses-the-public-face',
      severity: 'error',
      from: { path: '^src/cli/' },
      to: { path: '^src/', pathNot: '^src/(index\\.ts|cli/)' },
    },
    // The command is bundled with what it alone uses (bundle.mjs).
    {
      name: 'no-dev-dependencies',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/cli/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'] },
    },
    {
      name: 'bundled-packages-only',
      severity: 'error',
      from: { path: '^src/cli/' },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'],
        pathNot: '^node_modules/(commander|cli-progress|@types/cli-progress)/',
      },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
};
