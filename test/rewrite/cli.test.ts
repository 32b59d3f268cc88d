import { execFileSync, spawnSync } from 'node:child_process';
import { linkSync, lstatSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { cli } from '../helpers/cli.js';
import { fixture, load } from '../helpers/fixtures.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { chunk, hpte, htabPart, smallGuest, u32, u64 } from '../helpers/stream.js';
import { dissect, guestWith, plain, rewritten } from './support.js';

const BYTES = smallGuest();
const GUEST = scratchFile('guest.mig', BYTES);
const XML = '<domain type="kvm"><os><type machine="pseries-7.2">hvm</type></os></domain>';
const XML_FILE = scratchFile('guest.xml', Buffer.from(XML));
const fresh = (): string => join(mkdtempSync(join(scratch(), 'cli-')), 'out');
const left = (out: string): string[] => readdirSync(join(out, '..'));

describe('what is said', () => {
  test('without edits', async () => {
    const out = fresh();
    const { code, stdout, stderr } = await cli(['rewrite', GUEST, '-o', out]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout.toString()).toContain('the same as the input, byte for byte');
    expect(readFileSync(out).equals(BYTES)).toBe(true);
    expect(lstatSync(out).mode & 0o777).toBe(0o600);
    expect(left(out)).toEqual(['out']);
  });

  test('of edits', async () => {
    const out = fresh();
    const args = ['--compact', '--bolted-only', '--machine', 'pseries-8.0'];
    const { code, stdout } = await cli(['rewrite', GUEST, '-o', out, ...args]);
    expect(code).toBe(0);
    for (const words of [
      'raw stream',
      'machine: pseries-7.2, now pseries-8.0',
      '0 entries in 0 blocks',
      'saved',
    ]) {
      expect(stdout.toString()).toContain(words);
    }
    const direct = await rewritten(BYTES, {
      compact: true,
      boltedOnly: true,
      machine: 'pseries-8.0',
    });
    expect(readFileSync(out).equals(direct.bytes)).toBe(true);
  });

  test('of what a rehash leaves out', async () => {
    // A bolted page of segment 0 at hash 0, one at hash 1, and something without V: in TCG's tables.
    const entry = (slot: number, dw0: bigint) =>
      chunk(slot, [Buffer.concat([u64(dw0), u64(0x190)])]);
    const blocks = [entry(0, 0x11n), entry(8, 0x1000_0000_0001n), entry(16, 0x10n)];
    for (const [kept, words] of [
      [blocks, '1 dropped, 1 stored without V left out\n'],
      [blocks.slice(0, 2), '1 dropped\n'],
    ] as const) {
      const guest = scratchFile('tcg.mig', guestWith({ htab: [u32(18), htabPart(...kept)] }));
      const args = ['rewrite', guest, '-o', fresh(), '--order', '19', '--like-kernel'];
      const { code, stdout } = await cli(args);
      expect(stdout.toString()).toContain(`rehashed: 1 bolted, 0 others kept, ${words}`);
      expect(code).toBe(0);
    }
  });

  test('in JSON', async () => {
    const out = fresh();
    const { code, stdout } = await cli(['rewrite', GUEST, '-o', out, '--compact', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout.toString())).toMatchObject({
      output: out,
      identical: false,
      bytes: { before: BYTES.length, after: readFileSync(out).length },
      machine: { before: 'pseries-7.2', after: 'pseries-7.2' },
      wrapping: { after: { container: 'raw', format: 'none' } },
      hpt: { before: { blocks: 4 }, after: { blocks: 1, entries: 2 } },
      warnings: [],
    });
  });

  test('to stderr, when the stream goes to stdout', async () => {
    for (const json of [[], ['--json']]) {
      const args = ['rewrite', '-', '-o', '-', '--compact', ...json];
      const { code, stdout, stderr } = await cli(args, [BYTES]);
      expect(code).toBe(0);
      expect(stdout.equals((await rewritten(BYTES, { compact: true })).bytes)).toBe(true);
      expect(stderr).toContain(json.length > 0 ? '"output":"-"' : 'HPT after');
    }
  });

  test('of warnings, on stderr', async () => {
    const radix = scratchFile('radix.mig', load(fixture('qemu/linux-p9-radix.mig.gz')));
    const { code, stderr } = await cli(['rewrite', radix, '-o', fresh(), '--compact']);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^warning: .*radix/);
  });
});

describe('files', () => {
  test('an output that exists is kept without --force', async () => {
    const out = scratchFile('kept', Buffer.from('precious'));
    const refused = await cli(['rewrite', GUEST, '-o', out]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('--force');
    expect(readFileSync(out, 'utf8')).toBe('precious');
    expect((await cli(['rewrite', GUEST, '-o', out, '-f'])).code).toBe(0);
    expect(readFileSync(out).equals(BYTES)).toBe(true);
  });

  test('the input itself can be the output, with --force', async () => {
    const both = scratchFile('both.mig', BYTES);
    const kept = `${both}.link`;
    linkSync(both, kept);
    expect((await cli(['rewrite', both, '-o', both, '--compact'])).code).toBe(2);
    expect((await cli(['rewrite', both, '-o', both, '--compact', '-f'])).code).toBe(0);
    const expected = await rewritten(BYTES, { compact: true });
    expect(readFileSync(both).equals(expected.bytes)).toBe(true);
    expect(readFileSync(kept).equals(BYTES)).toBe(true);
  });

  test('a failure leaves an old file as it was, and nothing beside it', async () => {
    const out = fresh();
    const cut = scratchFile('cut.mig', BYTES.subarray(0, -300));
    const { code, stderr } = await cli(['rewrite', cut, '-o', out, '--compact']);
    expect(code).toBe(3);
    expect(stderr).toMatch(/at byte \d+/);
    expect(left(out)).toEqual([]);
  });
});

describe('options', () => {
  test('--htab from a file, from standard input, in another byte order', async () => {
    const kernel = Buffer.concat([chunk(5, [hpte(7)]), chunk(100, [hpte(8)], 3)]);
    const file = scratchFile('new.htab', kernel);
    const known = ['--htab-from', 'kernel', '--htab-endian', 'big'];
    for (const [name, input] of [
      [file, undefined],
      ['-', [kernel]],
    ] as const) {
      const out = fresh();
      const { code } = await cli(['rewrite', GUEST, '-o', out, '--htab', name, ...known], input);
      expect(code).toBe(0);
      const { parts } = plain((await dissect(readFileSync(out))).section);
      expect(parts.at(-1)?.map(({ index, nInvalid }) => [index, nInvalid])).toEqual([
        [5, 0],
        [100, 3],
      ]);
    }
  });

  test('--allow-other-order and --allow-radix', async () => {
    const other = scratchFile('other.section', Buffer.concat([u32(19), htabPart(), htabPart()]));
    const none = scratchFile('none.section', u32(0xffffffff));
    for (const [file, allow, code] of [
      [other, '--allow-other-order', 2],
      [none, '--allow-radix', 4],
    ] as const) {
      const args = ['rewrite', GUEST, '--htab', file, '--htab-from', 'section'];
      const refused = await cli([...args, '-o', fresh()]);
      expect(refused.code).toBe(code);
      expect((await cli([...args, '-o', fresh(), allow])).code).toBe(0);
    }
  });

  test('--container, --compress, --xml, --paused', async () => {
    const out = fresh();
    const args = ['--container', 'libvirt', '--compress', 'gzip', '--xml', XML_FILE, '--paused'];
    const { code, stdout } = await cli(['rewrite', GUEST, '-o', out, ...args]);
    expect(code).toBe(0);
    expect(stdout.toString()).toContain('libvirt image, gzip');
    const bytes = readFileSync(out);
    expect([24, 28].map((at) => bytes.readUInt32LE(at))).toEqual([0, 1]);
    const raw = await cli(['rewrite', out, '-o', '-', '--container', 'raw']);
    expect(raw.stdout.equals(BYTES)).toBe(true);
    const running = await cli(['rewrite', out, '-o', '-', '--running', '--compress', 'none']);
    expect([24, 28].map((at) => running.stdout.readUInt32LE(at))).toEqual([1, 0]);
  });

  test('--xml from standard input', async () => {
    const args = ['rewrite', GUEST, '-o', '-', '--container', 'libvirt', '--xml', '-'];
    const { code, stdout } = await cli(args, [Buffer.from(XML)]);
    expect(code).toBe(0);
    expect(stdout.toString('utf8', 92, 92 + XML.length)).toBe(XML);
  });

  test('--snapshot and --offset', async () => {
    const image = scratchFile('two.qcow2', load(fixture('containers/qcow2-64k.qcow2.gz')));
    const both = await cli(['rewrite', image, '-o', fresh()]);
    expect(both.code).toBe(2);
    expect(both.stderr).toContain('second');
    expect((await cli(['rewrite', image, '-o', fresh(), '--snapshot', 'second'])).code).toBe(0);
    const shifted = scratchFile('shifted', Buffer.concat([Buffer.alloc(4097), BYTES]));
    const { stdout } = await cli([
      'rewrite',
      shifted,
      '-o',
      '-',
      '--offset',
      '4097',
      '--container',
      'raw',
    ]);
    expect(stdout.equals(BYTES)).toBe(true);
  });
});

describe('exit codes and words', () => {
  const missing = join(scratch(), 'missing');
  const latin = scratchFile('latin.xml', Buffer.from('<domain>\xe9</domain>', 'latin1'));
  const hpt = scratchFile('only.section', Buffer.concat([u32(18), htabPart()]));
  const libvirt = ['--container', 'libvirt'];

  test.each([
    ['no such input', [missing], 1, 'E_IO', 'no such file'],
    ['no HPT', [GUEST, '--htab', latin], 3, 'E_MAGIC', 'the HPT to put in ('],
    ['no such XML', [GUEST, ...libvirt, '--xml', missing], 1, 'E_IO', 'no such file'],
    ['a folder as XML', [GUEST, ...libvirt, '--xml', scratch()], 1, 'E_IO', 'directory'],
    ['endless XML', [GUEST, ...libvirt, '--xml', '/dev/zero'], 3, 'E_LIMIT', 'too long'],
    ['XML that is not UTF-8', [GUEST, ...libvirt, '--xml', latin], 2, 'E_USAGE', 'UTF-8'],
    ['no XML', [GUEST, ...libvirt], 2, 'E_USAGE', '--xml'],
    ['XML for nothing', [GUEST, '--xml', XML_FILE], 2, 'E_USAGE', 'raw stream'],
    ['no snapshot', [hpt, '--compact'], 2, 'E_USAGE', 'convert'],
    ['standard input twice', ['-', '--htab', '-'], 2, 'E_USAGE', 'standard input'],
    ['--like-kernel alone', [GUEST, '--like-kernel'], 2, 'E_USAGE', '--order'],
    ['--htab-from alone', [GUEST, '--htab-from', 'image'], 2, 'E_USAGE', '--htab FILE'],
    ['--allow-other-order alone', [GUEST, '--allow-other-order'], 2, 'E_USAGE', '--htab FILE'],
    ['no name', [GUEST, '--machine', 'p 7'], 2, 'E_USAGE', 'pseries-7.2'],
    ['an old name', [GUEST, '--machine', 'pseries-2.1'], 4, 'E_UNSUPPORTED', 'footers'],
    [
      'sparse',
      [GUEST, ...libvirt, '--xml', XML_FILE, '--compress', 'sparse'],
      4,
      'E_UNSUPPORTED',
      'sparse',
    ],
  ])('%s', async (_, args, code, name, words) => {
    const out = fresh();
    const result = await cli(['rewrite', ...args, '-o', out]);
    expect(result.stderr).toContain(words);
    expect(result.stderr).toContain(`[${name}]`);
    // One line, and nothing that a terminal would not show.
    expect(result.stderr).toMatch(/^[\x20-\x7e]+\n$/);
    expect(result.stderr).not.toContain('\\x');
    expect(result.code).toBe(code);
    expect(left(out)).toEqual([]);
  });

  test('errors in JSON', async () => {
    const args = ['rewrite', GUEST, '-o', fresh(), '--machine', 'p 7', '--json'];
    const { code, stderr, stdout } = await cli(args);
    expect(code).toBe(2);
    expect(stdout.length).toBe(0);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'E_USAGE', actual: '"p 7"' } });
  });

  test.each([
    [['--running', '--paused']],
    [['--container', 'qcow2']],
    [['--compress', 'zip']],
    [['--order', 'x']],
    [['--nonsense']],
  ])('%j', async (args) => {
    const { code, stdout } = await cli(['rewrite', GUEST, '-o', fresh(), ...args]);
    expect(code).toBe(2);
    expect(stdout.length).toBe(0);
  });

  test('a program that is not installed', () => {
    const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
    for (const kind of ['zstd', 'xz', 'bzip2', 'lzop', 'lz4']) {
      const out = fresh();
      const args = [main, 'rewrite', GUEST, '-o', out, '--compress', kind];
      const run = spawnSync(process.execPath, args, {
        env: { PATH: '/nowhere' },
        encoding: 'utf8',
      });
      expect(run.status).toBe(4);
      expect(run.stderr).toContain('[E_PROGRAM_MISSING]');
      expect(run.stderr).toContain('apt-get install');
      expect(left(out)).toEqual([]);
    }
    // gzip needs none.
    const out = fresh();
    const args = [main, 'rewrite', GUEST, '-o', out, '--compress', 'gzip'];
    execFileSync(process.execPath, args, { env: { PATH: '/nowhere' } });
    expect(left(out)).toEqual(['out']);
  });

  test('what a program says when it fails', () => {
    const folder = mkdtempSync(join(scratch(), 'path-'));
    const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
    const program = join(folder, 'xz');
    execFileSync('/bin/sh', [
      '-c',
      `printf '#!/bin/sh\necho no memory >&2; exit 3' > ${program}; chmod +x ${program}`,
    ]);
    const out = fresh();
    const args = [main, 'rewrite', GUEST, '-o', out, '--compress', 'xz'];
    const run = spawnSync(process.execPath, args, { env: { PATH: folder }, encoding: 'utf8' });
    expect(run.status).toBe(1);
    expect(run.stderr).toContain('xz could not compress the stream');
    expect(run.stderr).toContain('exit status 3: no memory');
    expect(left(out)).toEqual([]);
  });
});
