import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { described, dumpText, field, stream } from '../compat/support.js';
import { state, u32, value } from '../devices/writer.js';
import { cli } from '../helpers/cli.js';
import { scratchFile } from '../helpers/sources.js';

const DEVICE = { path: 'pci@0/', state: state('dev', 2, [value('a', 'uint32', u32(1), 1)]) };
const GUEST = scratchFile('guest.mig', stream([DEVICE]));
const SAME = described('dev', [field('a', 4)], { version_id: 2 });
const target = (version: number) => {
  const text = dumpText([{ ...SAME, version_id: version }]);
  return scratchFile('target.json', text);
};

test('nothing refused', async () => {
  const { code, stdout, stderr } = await cli(['check', GUEST, '--vmstate', target(2)]);
  const text = stdout.toString();
  expect([code, stderr]).toEqual([0, '']);
  expect(text).toContain('nothing is seen to be refused: 0 sections refused, 1 ok');
  expect(text).toMatch(/ok +pci@0\/dev +2 +fields/);
});

test('refused: exit code 5, what is refused first, with its reasons', async () => {
  const fine = { state: state('fine', 1, [value('a', 'uint32', u32(1), 1)]) };
  const guest = scratchFile('guest.mig', stream([fine, DEVICE], { machine: 'pseries-7.1' }));
  const states = [described('fine', [field('a', 4)]), { ...SAME, version_id: 1 }];
  const json = scratchFile('target.json', dumpText(states));
  const { code, stdout } = await cli(['check', guest, '--vmstate', json]);
  const text = stdout.toString();
  expect(code).toBe(5);
  expect(text).toContain('it would be refused: the configuration, 1 section refused, 1 ok');
  expect(text.indexOf('pci@0/dev')).toBeLessThan(text.indexOf('fine'));
  expect(text).toContain('refused: pci@0/dev: version 2, and the target reads up to 1');
  expect(text).toContain('the snapshot is of pseries-7.1, not of pseries-7.2');
});

test('for programs', async () => {
  const { code, stdout } = await cli(['check', GUEST, '--vmstate', target(1), '--json']);
  const report = JSON.parse(stdout.toString());
  expect(code).toBe(5);
  expect(report).toMatchObject({
    verdict: 'refused',
    counts: { ok: 0, refused: 1, unknown: 0 },
    configuration: { machine: 'pseries-7.2', target: 'pseries-7.2', verdict: 'ok', reasons: [] },
    sections: [
      {
        name: 'pci@0/dev',
        version: 2,
        compared: 'fields',
        verdict: 'refused',
        reasons: [{ code: 'version-too-new', refuses: true, path: 'pci@0/dev' }],
      },
    ],
    warnings: [],
  });
  expect(report.notes.length).toBeGreaterThan(0);
});

test('from standard input, and at an offset', async () => {
  const bytes = readFileSync(GUEST);
  const piped = await cli(['check', '-', '--vmstate', target(2)], [bytes]);
  expect([piped.code, piped.stdout.includes('fields')]).toEqual([0, true]);
  const later = scratchFile('later.mig', Buffer.concat([Buffer.alloc(999, 1), bytes]));
  const { code } = await cli(['check', later, '--vmstate', target(1), '--offset', '999']);
  expect(code).toBe(5);
});

test.each([
  ['no dump at all', [], 2, ''],
  ['a dump that is not there', ['--vmstate', '/nowhere.json'], 1, 'E_IO'],
  ['a dump that is none', ['--vmstate', scratchFile('x.json', Buffer.from('{}'))], 3, 'E_VMSTATE'],
])('%s', async (_, args, expected, message) => {
  const { code, stderr } = await cli(['check', GUEST, ...args]);
  expect(code).toBe(expected);
  expect(stderr).toContain(message);
});

test('a file that is no snapshot', async () => {
  const file = scratchFile('x', Buffer.alloc(1000, 1));
  const { code, stderr } = await cli(['check', file, '--vmstate', target(1)]);
  expect(code).toBe(3);
  expect(stderr).toContain('E_MAGIC');
});

test('names in a file cannot write to the terminal', async () => {
  const evil = stream([{ path: '\x1b]0;x\x07/', state: DEVICE.state }], { machine: '\x1b[2J' });
  const { stdout } = await cli(['check', scratchFile('x', evil), '--vmstate', target(1)]);
  expect(stdout.toString()).toContain('\\x1b[2J');
  expect(stdout.includes(0x1b)).toBe(false);
});
