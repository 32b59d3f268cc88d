import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HPT_FORMATS, INPUT_FORMATS, OUTPUT_CONTAINERS, OUTPUT_FORMATS } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { cli } from '../helpers/cli.js';
import { fixture, fixtureUrl, load } from '../helpers/fixtures.js';
import { plainElements } from '../helpers/reference.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { header, ram, smallGuest, start, str8, tail, u64 } from '../helpers/stream.js';

const GUEST = scratchFile('guest.mig', smallGuest());
const KERNEL = load(fixture('kvm/h8-guest.htab.gz'));
const SECTION = plainElements(load(fixture('kvm/h8-guest.htabsec.gz')));
const leftovers = (path: string) =>
  readdirSync(dirname(path)).filter((name) => name.startsWith(`.${basename(path)}`));

describe('info', () => {
  test('a snapshot, for people', async () => {
    const { code, stdout } = await cli(['info', GUEST]);
    const text = stdout.toString();
    expect(code).toBe(0);
    for (const word of ['pseries-7.2', 'order 18', '2 valid', 'spapr/htab', 'timer', '2 passes']) {
      expect(text).toContain(word);
    }
  });

  test('a snapshot, for programs', async () => {
    const { code, stdout } = await cli(['info', GUEST, '--json']);
    const info = JSON.parse(stdout.toString());
    expect(code).toBe(0);
    expect(info).toMatchObject({ format: 'snapshot', hpt: { order: 18, valid: 2, passes: 2 } });
    const bytes = readFileSync(GUEST);
    for (const section of info.stream.sections) {
      expect(bytes.readUInt32BE(section.offset + 1)).toBe(section.id);
      for (const part of section.parts) expect([1, 2, 3, 4]).toContain(bytes[part.offset]);
    }
  });

  test('a list of many RAM blocks is shown as fast as it is read', async () => {
    const names = Array.from({ length: 60_000 }, (_, i) => `block${i}`);
    const list = names.map((name) => Buffer.concat([str8(name), u64(4096)]));
    const setup = Buffer.concat([u64((names.length * 4096) | 4), ...list, ram.empty]);
    const stream = [header(), start(2, 'ram', 4, setup, { footers: true }), tail(undefined)];
    const { code, stdout } = await cli(['info', '-'], stream);
    expect(code).toBe(0);
    expect(stdout.toString()).toMatch(/^ block59999 +4096 /m);
  }, 20_000);

  test('names in a file cannot write to the terminal', async () => {
    const evil = Buffer.from(smallGuest());
    evil.set(Buffer.from('\x1b]0;x\x07e'), evil.indexOf('pseries-7.2'));
    const { stdout } = await cli(['info', '-'], [evil]);
    expect(stdout.toString()).toContain('\\x1b]0;x\\x07');
    expect(stdout.includes(0x1b)).toBe(false);
  });
});

describe('convert', () => {
  test.each([
    ['.htab', KERNEL],
    ['.section', SECTION],
  ])('to %s by the extension', async (extension, expected) => {
    const from = scratchFile('in', extension === '.htab' ? SECTION : KERNEL);
    const out = scratchFile(`out${extension}`);
    const { code, stdout } = await cli(['convert', from, '-o', out]);
    expect(code).toBe(0);
    expect(stdout.toString()).toContain('16428 entries');
    const bytes = readFileSync(out);
    // One part came from the kernel; QEMU's section has its own parts around the same chunks.
    if (extension === '.htab') expect(bytes.equals(expected)).toBe(true);
    else expect(bytes.subarray(0, 4)).toEqual(expected.subarray(0, 4));
  });

  test('from standard input to standard output', async () => {
    const args = ['convert', '-', '-o', '-', '--to', 'kernel', '--endian', 'big'];
    const { code, stdout, stderr } = await cli(args, [SECTION]);
    expect(code).toBe(0);
    expect(stdout.length).toBe(KERNEL.length);
    expect(stdout.readUInt16BE(6)).toBe(KERNEL.readUInt16LE(6));
    expect(stderr).toContain('order 22');
  });

  test('outputs are private, and existing files are kept without --force', async () => {
    const out = scratchFile('kept.htab', Buffer.from('precious'));
    chmodSync(out, 0o644);
    const refused = await cli(['convert', GUEST, '-o', out]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('--force');
    expect(readFileSync(out, 'utf8')).toBe('precious');
    expect((await cli(['convert', GUEST, '-o', out, '--force'])).code).toBe(0);
    expect(lstatSync(out).mode & 0o777).toBe(0o600);
    expect(leftovers(out)).toEqual([]);
  });

  test('a failure leaves nothing behind, and an old file as it was', async () => {
    const cut = scratchFile('cut.mig', readFileSync(GUEST).subarray(0, -300));
    const out = scratchFile('old.section', Buffer.from('old'));
    const { code, stderr } = await cli(['convert', cut, '-o', out, '--force']);
    expect(code).toBe(3);
    expect(stderr).toMatch(/at byte \d+/);
    expect(readFileSync(out, 'utf8')).toBe('old');
    expect(leftovers(out)).toEqual([]);
  });

  test('a symbolic link as output is replaced, not followed', async () => {
    const target = scratchFile('target', Buffer.from('keep'));
    const link = join(scratch(), 'link.htab');
    symlinkSync(target, link);
    expect((await cli(['convert', GUEST, '-o', link, '--force'])).code).toBe(0);
    expect(readFileSync(target, 'utf8')).toBe('keep');
    expect(lstatSync(link).isFile()).toBe(true);
  });

  test('a compressed fixture is opened as it is', async () => {
    const { pathname } = fixtureUrl('qemu/linux-p8-live.mig.gz');
    const out = scratchFile('live.htab');
    const { code, stdout } = await cli(['convert', pathname, '-o', out]);
    expect(code).toBe(0);
    expect(stdout.toString()).toContain('snapshot of pseries-7.2 to kernel');
  });
});

describe('exit codes', () => {
  const missing = join(scratch(), 'missing');
  const zero = scratchFile('zero', Buffer.alloc(100));
  const radix = fixtureUrl('qemu/linux-p9-radix.mig.gz').pathname;
  const vmdk = scratchFile('disk.vmdk', Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(600)]));
  const delta = load(fixture('kvm/p8-many-delta.htab.gz'));
  const bare = scratchFile('delta.htab', delta);

  test.each([
    ['no such file', ['info', missing], 1, 'E_IO'],
    ['a folder as output', ['convert', GUEST, '-o', scratch(), '--to', 'kernel', '-f'], 1, 'E_IO'],
    ['no verb', [], 2, ''],
    ['an unknown option', ['info', GUEST, '--nonsense'], 2, ''],
    ['no output', ['convert', GUEST], 2, ''],
    ['an output of no known format', ['convert', GUEST, '-o', `${missing}.bin`], 2, 'E_USAGE'],
    [
      'an order that cannot be',
      ['convert', GUEST, '-o', `${missing}.htab`, '--order', '17'],
      2,
      'E_ORDER',
    ],
    ['another order', ['convert', GUEST, '-o', `${missing}.htab`, '--order', '22'], 2, 'E_ORDER'],
    ['no order', ['convert', bare, '-o', `${missing}.section`], 2, 'E_ORDER_REQUIRED'],
    ['nothing known', ['info', zero], 3, 'E_MAGIC'],
    ['the image of a radix guest', ['convert', radix, '-o', `${missing}.img`], 4, 'E_NO_HPT'],
    ['a disk image', ['info', vmdk], 4, 'E_CONTAINER'],
  ])('%s', async (_name, args, code, word) => {
    const result = await cli(args);
    expect(result.code).toBe(code);
    expect(result.stderr).toContain(word);
    if (word === '') return;
    expect(result.stderr.trimEnd().split('\n').length).toBe(1);
    const json = await cli([...args, '--json']);
    expect(JSON.parse(json.stderr).error).toMatchObject({ code: word });
  });

  test('help and version end well', async () => {
    expect((await cli(['--help'])).code).toBe(0);
    const { code, stdout } = await cli(['--version']);
    expect(code).toBe(0);
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(stdout.toString().trim()).toBe(version);
  });

  test('blocks that read either way are not guessed at', async () => {
    // One block {0x01010101, 0 valid, 0x0101 invalid}: the same in either byte order.
    const path = scratchFile('both.htab', Buffer.from('0101010100000101', 'hex'));
    const refused = await cli(['convert', path, '-o', '-', '--to', 'kernel']);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('--from-endian');
    const told = await cli(['convert', path, '-o', '-', '--to', 'kernel', '--from-endian', 'big']);
    expect(told.stdout.toString('hex')).toBe('0101010100000101');
    writeFileSync(path, '');
    expect((await cli(['info', path])).code).toBe(3);
  });
});

describe('standard output that takes nothing', () => {
  const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
  const shell = (command: string, args: readonly string[]) =>
    spawnSync('bash', ['-c', command, process.execPath, main, ...args], { encoding: 'utf8' });
  const cases = [
    ['info', [GUEST]],
    ['verify', [GUEST]],
    ['convert', [GUEST, '-o', '-', '--to', 'kernel']],
    ['rewrite', [GUEST, '-o', '-']],
    ['--help', []],
  ] as const;

  test.each(cases)('a full disk: %s', (verb, rest) => {
    const { status, stderr } = shell('"$0" "$@" > /dev/full', [verb, ...rest]);
    expect(stderr).toMatch(/^spapr-htab: cannot write to standard output: .*\[E_IO\]\n$/);
    expect(stderr).toContain('no space left');
    expect(stderr.split('\n').length).toBe(2);
    expect(status).toBe(1);
  });

  test.each(cases.slice(0, -1))('a full disk, in JSON: %s', (verb, rest) => {
    const { status, stderr } = shell('"$0" "$@" --json > /dev/full', [verb, ...rest]);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'E_IO', actual: 'ENOSPC' } });
    expect(status).toBe(1);
  });

  test.each(cases)('a pipe that is closed: %s', (verb, rest) => {
    // The reader is gone before anything is written.
    const command = '{ sleep 0.2; "$0" "$@"; echo "code $?" >&2; } | true';
    const { stderr } = shell(command, [verb, ...rest]);
    expect(stderr).toMatch(
      /^spapr-htab: cannot write to standard output: the reader closed the pipe.*\[E_IO\]\ncode 1\n$/,
    );
  });

  test('another error is said too', () => {
    const missing = join(scratch(), 'missing');
    const { status, stderr } = shell('"$0" "$@" > /dev/full', ['info', missing]);
    expect(stderr).toMatch(/^spapr-htab: cannot open .*\n$/);
    expect(status).toBe(1);
  });
});

describe('ram', () => {
  test('writes the memory, sparse and private', async () => {
    const out = scratchFile('ram.img');
    const { code, stdout } = await cli(['ram', GUEST, '-o', out]);
    expect(code).toBe(0);
    expect(stdout.toString()).toContain('ppc_spapr.ram, 1.0 MiB; 4 pages, 4 zero');
    const bytes = readFileSync(out);
    expect(bytes.length).toBe(1 << 20);
    for (let page = 0; page < 256; page++) {
      const expected = page < 8 && page % 2 === 0 ? 0x50 : 0;
      expect(bytes.subarray(page * 4096, (page + 1) * 4096).every((b) => b === expected)).toBe(
        true,
      );
    }
    expect(lstatSync(out).mode & 0o777).toBe(0o600);
  });

  test('a block that is not there is refused, and the blocks are named', async () => {
    const out = scratchFile('no.img');
    const { code, stderr } = await cli(['ram', GUEST, '-o', out, '--block', 'vga.vram']);
    expect(code).toBe(2);
    expect(stderr).toContain('ppc_spapr.ram');
    expect(leftovers(out)).toEqual([]);
  });
});

test('info --devices decodes the state of a real guest, compressed or not', async () => {
  const { pathname } = fixtureUrl('qemu/linux-p8-paused.mig.gz');
  const { code, stdout } = await cli(['info', pathname, '--devices']);
  expect(code).toBe(0);
  const { devices, stream } = JSON.parse(stdout.toString());
  const full = stream.sections.filter((s: { iterable: boolean }) => !s.iterable);
  expect(devices.map((d: { name: string }) => d.name)).toEqual(
    full.map((s: { name: string }) => s.name),
  );
  type Field = { name: string; text?: string; value?: unknown };
  const field = (device: string, name: string): Field | undefined =>
    devices
      .find((d: { name: string }) => d.name === device)
      ?.device.state.fields.find((f: Field) => f.name === name);
  expect(field('globalstate', 'runstate')?.text).toBe('paused');
  // The kernel's text and data are mapped from 0xc000000000000000 on.
  expect(String(field('cpu', 'env.nip')?.value)).toMatch(/^0xc0000000/);
  expect(devices.every((d: { device: { undecoded: number } }) => d.device.undecoded === 0)).toBe(
    true,
  );
});

test('the command offers what the library knows', async () => {
  const help = (await cli(['rewrite', '--help'])).stdout.toString().replace(/\s+/g, ' ');
  const choices = (names: readonly string[]) => names.map((name) => `"${name}"`).join(', ');
  for (const names of [INPUT_FORMATS, OUTPUT_CONTAINERS, OUTPUT_FORMATS]) {
    expect(help).toContain(`(choices: ${choices(names)})`);
  }
  const convert = (await cli(['convert', '--help'])).stdout.toString().replace(/\s+/g, ' ');
  expect(convert).toContain(`(choices: ${choices(HPT_FORMATS)}`);
});
