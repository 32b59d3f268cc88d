import { existsSync, mkdtempSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { encode } from '@msgpack/msgpack';
import {
  BufferSource,
  ByteReader,
  describeStream,
  encodeArchive,
  FormatError,
  inspect,
  inspectDevices,
  parseVmdesc,
  parseVmstateDump,
  readArchive,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { printable } from '../src/printable.js';
import { dumpText } from './compat/support.js';
import { makeLibvirt } from './container/make-libvirt.js';
import { makeQcow2 } from './container/make-qcow2.js';
import { cli } from './helpers/cli.js';
import { scratch, scratchFile } from './helpers/sources.js';
import {
  chunk,
  configuration,
  full,
  header,
  hpte,
  htabPart,
  part,
  ram,
  start,
  u32,
} from './helpers/stream.js';

const FRAMING = { footers: true };
/** Clears a screen, sets its title, turns text round, goes back a line, and ends one. */
const EVIL = '\x1b[2J\x1b]0;x\x07\x9b2K\u202egnp\u2066.\u200f\r\n\x00\u2028';
/** The same as a stream can have it: one byte a character. */
const NAME = '\x1b[2J\x07\x9b2K\r\n../\x00x';

function description(devices: readonly string[]): Buffer {
  const json = JSON.stringify({
    page_size: 4096,
    devices: devices.map((name) => ({
      name,
      instance_id: 0,
      vmsd_name: EVIL,
      version: 1,
      fields: [{ name: EVIL, type: EVIL, size: 2 }],
    })),
  });
  return Buffer.concat([Buffer.of(0, 6), u32(Buffer.byteLength(json)), Buffer.from(json)]);
}

function hostileStream(name = NAME): Buffer {
  return Buffer.concat([
    header(),
    // One byte a character, where the helper counts them.
    Buffer.from(configuration(name, [name]).toString('utf8'), 'latin1'),
    start(2, 'ram', 4, ram.setup(name, 1 << 20), FRAMING),
    start(5, 'spapr/htab', 1, u32(18), FRAMING),
    part(2, ram.round(name, 4), FRAMING),
    part(5, htabPart(chunk(1, [hpte(1)])), FRAMING),
    full(0, name, 2, Buffer.alloc(2), FRAMING),
    full(1, `${name}2`, 2, Buffer.alloc(9), FRAMING),
    description([name]),
  ]);
}

const stream = hostileStream();
const xml = `<domain><type machine="${EVIL.replaceAll('\0', '')}"/></domain>`;
const files = {
  stream: scratchFile('stream.mig', stream),
  'cut stream': scratchFile('cut.mig', stream.subarray(0, 200)),
  libvirt: scratchFile('libvirt', makeLibvirt({ xml, cookie: EVIL.slice(0, 5), stream })),
  qcow2: scratchFile(
    'image.qcow2',
    makeQcow2({
      backingFile: EVIL,
      snapshots: ['1', '2'].map((id) => ({ id: `${EVIL}${id}`, name: EVIL, state: stream })),
    }).image,
  ),
  features: scratchFile(
    'features.qcow2',
    makeQcow2({ features: 1n << 9n, featureNames: [[9, EVIL]] }).image,
  ),
  'no archive': scratchFile('x.msgpack', encode({ format: 'spapr-htab', version: EVIL })),
};
const vmstate = scratchFile('vmstate.json', dumpText([], { machine: EVIL }));

const verbs: readonly (readonly [name: string, args: (file: string) => string[]])[] = [
  ['info', (file) => ['info', file]],
  ['info --xml', (file) => ['info', file, '--xml']],
  ['info --devices', (file) => ['info', file, '--devices']],
  ['verify', (file) => ['verify', file]],
  ['convert', (file) => ['convert', file, '-o', scratchFile('out.htab')]],
  ['ram', (file) => ['ram', file, '-o', scratchFile('out.ram')]],
  ['rewrite', (file) => ['rewrite', file, '-o', scratchFile('out.mig'), '--machine', 'p-1']],
  ['check', (file) => ['check', file, '--vmstate', vmstate]],
  ['restore', (file) => ['restore', file, '--fd', '0']],
];

describe.each(Object.entries(files))('text of a hostile file: %s', (_, file) => {
  test.each(verbs)(
    '%s prints nothing that a terminal acts on',
    async (_, args) => {
      for (const more of [[], ['--json']]) {
        const { stdout, stderr, code } = await cli([...args(file), ...more]);
        expect(stdout.length + stderr.length).toBeGreaterThan(0);
        expect([0, 2, 3, 4, 5]).toContain(code);
        // Printable ASCII and ends of lines.
        expect(stdout.toString('latin1')).toMatch(/^[\x20-\x7e\n]*$/);
        expect(stderr).toMatch(/^[\x20-\x7e\n]*$/);
        if (more.length === 0) continue;
        for (const text of [stdout.toString(), stderr].filter((text) => text !== ''))
          JSON.parse(text);
      }
    },
    60_000,
  );
});

test('what JSON says is the text as it is', async () => {
  const { stdout } = await cli(['info', files.qcow2, '--json']);
  const { layers } = JSON.parse(stdout.toString());
  expect(layers[0].backingFile).toBe(EVIL);
  expect(layers[0].snapshots[0].name).toBe(EVIL);
});

test('messages of errors and warnings are escaped where they are made', async () => {
  const { message } = new FormatError('E_MAGIC', EVIL, { path: EVIL, actual: EVIL });
  expect(message).toContain('\\x1b[2J');
  expect(message).toBe(printable(message));
  const { warnings, configuration: read } = await describeStream(new BufferSource(stream));
  expect(read?.machine).toBe(NAME);
  expect(warnings.length).toBeGreaterThan(0);
  for (const { message: text } of warnings) expect(text).toBe(printable(text));
});

test('text that people can read stays as it is', () => {
  expect(printable('Größe 漢字 😀 \\x1b')).toBe('Größe 漢字 😀 \\x1b');
  expect(printable('\x1b\x9b\u202e\ud800.')).toBe('\\x1b\\x9b\\u{202e}\\u{d800}.');
});

test('names never become paths', async () => {
  const folder = mkdtempSync(join(scratch(), 'names-'));
  const name = join(folder, 'made');
  const file = scratchFile('names.mig', hostileStream(name));
  const image = scratchFile(
    'names.qcow2',
    makeQcow2({ backingFile: name, snapshots: [{ id: name, name, state: hostileStream(name) }] })
      .image,
  );
  const made = readdirSync(folder);
  for (const input of [file, image]) {
    for (const [, args] of verbs) {
      const { stderr } = await cli(args(input));
      // Nor is one opened that is not there.
      expect(stderr).not.toContain('no such file');
    }
  }
  expect(readdirSync(folder)).toEqual(made);
  expect(existsSync(name)).toBe(false);
}, 60_000);

describe('names that every object has are data', () => {
  const NAMES = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'];
  const untouched = (): void => {
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(Object.keys(Object.prototype)).toEqual([]);
  };

  test.each(NAMES)('%s in a description', async (name) => {
    const inner = `{"${name}": {"polluted": 1}, "name": "${name}", "type": "${name}", "size": 2}`;
    const text = `{"${name}": {"polluted": true}, "devices": [{"${name}": 1, "name": "${name}",
      "instance_id": 0, "vmsd_name": "${name}", "version": 1, "fields": [${inner}]}]}`;
    const { devices } = parseVmdesc(Buffer.from(text), 0);
    expect(devices).toMatchObject([{ name, payloadLength: 2, state: { fields: [{ name }] } }]);
    const guest = Buffer.concat([
      header(),
      configuration(name),
      full(1, name, 1, Buffer.alloc(2), FRAMING),
      Buffer.of(0, 6),
      u32(text.length),
      Buffer.from(text),
    ]);
    for await (const report of inspectDevices(new BufferSource(guest))) {
      expect(report).toMatchObject({ section: { name }, payloadLength: 2, reason: undefined });
    }
    const { stream: info } = await inspect(new BufferSource(guest));
    expect(info?.sections).toMatchObject([{ name, length: 2 }]);
    untouched();
  });

  test.each(NAMES)("%s in a target's description", (name) => {
    const text = dumpText([]).toString().replaceAll('counted', name);
    const { classes } = parseVmstateDump(Buffer.from(text));
    expect(classes.some(({ state }) => state.name === name)).toBe(true);
    untouched();
  });

  test.each(NAMES)('%s in an archive', async (name) => {
    const pieces: Uint8Array[] = [];
    const origin = { source: { kind: name, machine: name }, byteOrder: null, host: null };
    const items = (async function* () {
      yield { type: 'order', order: 18, offset: 0 } as const;
    })();
    for await (const piece of encodeArchive(items, origin)) pieces.push(piece.slice());
    const reader = new ByteReader(new BufferSource(Buffer.concat(pieces)));
    expect((await readArchive(reader)).header.source).toEqual({ kind: name, machine: name });
    // As a key: refused, or left out; never taken for more than it is.
    const key = `${String.fromCharCode(0xa0 + name.length)}${name}`;
    const map = Buffer.concat([Buffer.of(0x81), Buffer.from(key, 'latin1'), Buffer.of(0x81)]);
    const bytes = Buffer.concat([map, Buffer.from('\xa8polluted\xc3', 'latin1')]);
    const reading = readArchive(new ByteReader(new BufferSource(bytes)));
    await expect(reading).rejects.toMatchObject({ code: 'E_ARCHIVE' });
    untouched();
  });
});
