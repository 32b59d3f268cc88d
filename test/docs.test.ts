import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ERROR_CODES, type HashPageTable, openHpt } from 'spapr-htab';
import { expect, test } from 'vitest';
import { fixture, load } from './helpers/fixtures.js';
import { scratchFile } from './helpers/sources.js';
import { smallGuest } from './helpers/stream.js';

const read = (path: string) => readFileSync(path, 'utf8');

test('docs/errors.md has a heading for every code, and for no other', () => {
  const headings = [...read('docs/errors.md').matchAll(/^## (\w+)$/gm)].map((match) => match[1]);
  expect(headings).toEqual([...ERROR_CODES]);
  expect([...ERROR_CODES]).toEqual([...ERROR_CODES].sort());
});

test('every code of docs/errors.md is thrown somewhere', () => {
  const source = execFileSync('git', ['grep', '-h', "'E_", '--', 'src'], { encoding: 'utf8' });
  for (const code of ERROR_CODES) {
    expect(source.split(`'${code}'`).length, code).toBeGreaterThan(2);
  }
});

test('docs/warnings.md has every warning, and no other', () => {
  const source = execFileSync('git', ['grep', '-hoE', "'W_[A-Z_0-9]+'", '--', 'src'], {
    encoding: 'utf8',
  });
  const used = new Set(
    source
      .split('\n')
      .filter(Boolean)
      .map((code) => code.slice(1, -1)),
  );
  const listed = [...read('docs/warnings.md').matchAll(/`(W_\w+)`/g)].map((match) => match[1]);
  expect(listed.sort()).toEqual([...used].sort());
});

test('docs/dependencies.md names every dependency, and no other', () => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json'));
  const rows = read('docs/dependencies.md')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)])
    .map((match) => match[1]);
  expect(rows.sort()).toEqual(Object.keys({ ...dependencies, ...devDependencies }).sort());
});

test('the example of docs/embedding.md compiles and works', async () => {
  const code = /```ts\n([\s\S]*?)```/.exec(read('docs/embedding.md'))?.[1] ?? '';
  // Inside the checkout, so that `spapr-htab` resolves as it does for a user.
  const folder = join('test', '.cache');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'example.mts'), code);
  const tsc = ['node_modules/typescript/bin/tsc', '--ignoreConfig', '--module', 'NodeNext'];
  const options = ['--target', 'ES2022', '--lib', 'ES2023,ESNext.Disposable', '--strict'];
  execFileSync(
    process.execPath,
    [...tsc, ...options, '--skipLibCheck', '--types', 'node', join(folder, 'example.mts')],
    { stdio: 'inherit' },
  );
  const example = await import(pathToFileURL(join(folder, 'example.mjs')).href);

  const guest = scratchFile('guest.mig', smallGuest());
  const sent: Buffer[] = [];
  const percents: number[] = [];
  const result = await example.sendHpt(
    guest,
    async (blocks: Uint8Array) => void sent.push(Buffer.from(blocks)),
    new AbortController().signal,
    (percent: number) => percents.push(percent),
  );
  const linux = scratchFile('linux.mig', load(fixture('qemu/linux-p8-live.mig.gz')));
  const { signal } = new AbortController();
  expect(await example.renew(linux, 'pseries-7.2', signal)).toEqual([]);
  expect(await example.renew(linux, 'pseries-7.2', signal)).toEqual(['nothing to do']);
  const cut = scratchFile('cut.mig', smallGuest().subarray(0, 3000));
  expect(await example.renew(cut, 'pseries-7.2', signal)).toEqual([
    expect.stringContaining('the file ends inside'),
  ]);
  expect(result).toEqual({ machine: 'pseries-7.2', warnings: [] });
  expect(Buffer.concat(sent).readUInt32LE(0)).toBe(1);
  expect(percents.at(-1)).toBe(100);

  const stop = AbortSignal.abort(new Error('enough'));
  const failure = await example
    .sendHpt(
      guest,
      async () => undefined,
      stop,
      () => undefined,
    )
    .catch((error: unknown) => error);
  expect(example.explain(failure)).toBe('Stopped.');

  const file = scratchFile('h8.htab', load(fixture('kvm/h8-guest.htab.gz')));
  expect((await example.boltedEntries(file)).length).toBe(16392);

  const { SoftwareHtab } = await import('spapr-htab');
  const vm = new SoftwareHtab({ order: 22 });
  expect(await example.loadHpt(file, vm.open({ write: true }), signal)).toMatch(/^\d+ entries$/);
  const saved = scratchFile('saved.section');
  expect(await example.saveHpt(vm.open(), saved, signal)).toBe(22);
  vm.running = true;
  expect(await example.loadHpt(saved, vm.open({ write: true }), signal)).toMatch(/stopped first/);
});

test('the table of docs/archive.md is what a plain reader of the format makes of it', async () => {
  // The steps of the Python example, with the decoder of another party's choice left out of it.
  const { decodeMulti } = await import('@msgpack/msgpack');
  const { createHash } = await import('node:crypto');
  const { convert } = await import('spapr-htab');
  const out = scratchFile('guest.msgpack');
  await convert(scratchFile('guest.mig', smallGuest()), out);
  const data = readFileSync(out);
  expect(data.subarray(-34, -32).toString('hex')).toBe('c420');
  expect(createHash('sha256').update(data.subarray(0, -34)).digest()).toEqual(data.subarray(-32));
  const [header, ...records] = [...decodeMulti(data.subarray(0, -34))] as [
    { order: number },
    ...unknown[],
  ];
  const table = Buffer.alloc(2 ** header.order);
  for (const record of records) {
    if (!Array.isArray(record)) continue;
    const [index, nInvalid, entries] = record as [number, number, Uint8Array];
    table.set(entries, index * 16);
    table.fill(0, index * 16 + entries.length, index * 16 + entries.length + nInvalid * 16);
  }
  await using hpt = await openHpt(out);
  const expected: HashPageTable = await hpt.table();
  for (const { index, dw0 } of expected.entries()) {
    expect(table.readBigUInt64BE(index * 16)).toBe(dw0);
  }
  expect(expected.counts().valid).toBe(2);
});

test('every promise of docs/security.md names tests that exist, and its last section is figures', () => {
  const text = read('docs/security.md');
  const promises = text.slice(text.indexOf('## What the library promises'));
  const rows = promises.split('\n').filter((line) => /^\| [A-Z]/.test(line));
  expect(rows.length).toBeGreaterThan(10);
  for (const row of rows) {
    const tests = [...row.matchAll(/`(test\/[^`]+)`/g)].map((match) => match[1] ?? '');
    expect(tests.length, row).toBeGreaterThan(0);
    for (const path of tests) expect(existsSync(path), path).toBe(true);
  }
  expect([...text.matchAll(/^## (.+)$/gm)].at(-1)?.[1]).toBe('Figures');
});
