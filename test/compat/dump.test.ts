import fc from 'fast-check';
import {
  DEFAULT_LIMITS,
  type FormatError,
  parseVmstateDump,
  readVmstateDump,
  SpaprHtabError,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { scratchFile } from '../helpers/sources.js';
import { described, dumpText, field } from './support.js';

const MACHINE = '"vmschkmachine": {"Name": "pseries-7.2"}';
const DEVICE = '"name": "dev", "version_id": 1, "minimum_version_id": 1';
const parse = (text: string) => parseVmstateDump(Buffer.from(text));

function refusal(text: string | Uint8Array): FormatError {
  try {
    parseVmstateDump(typeof text === 'string' ? Buffer.from(text) : text);
  } catch (error) {
    return error as FormatError;
  }
  throw new Error('it was taken');
}

test('everything that is written is read', () => {
  const inner = described('in', [field('x', 4, { num: 3, version_id: 2, field_exists: true })]);
  const sub = described('dev/sub', [], { version_id: 0, minimum_version_id: 0 });
  const state = described('dev', [field('s', 12, { Description: inner })], { Subsections: [sub] });
  const empty = { fields: [], subsections: [] };
  expect(parseVmstateDump(dumpText([state], { counted: false }))).toEqual({
    machine: 'pseries-7.2',
    counted: true,
    classes: [
      {
        name: 'class-0',
        state: {
          name: 'dev',
          version: 1,
          minimumVersion: 1,
          fields: [
            {
              name: 's',
              version: 0,
              optional: false,
              count: undefined,
              size: 12,
              state: {
                name: 'in',
                version: 1,
                minimumVersion: 1,
                fields: [
                  { name: 'x', version: 2, optional: true, count: 3, size: 4, state: undefined },
                ],
                subsections: [],
              },
            },
          ],
          subsections: [{ name: 'dev/sub', version: 0, minimumVersion: 0, ...empty }],
        },
      },
    ],
  });
});

test('keys are data, whatever they are called', () => {
  const state = `{${DEVICE}, "Fields": [], "toString": 1, "__proto__": {"name": "evil"}}`;
  const { classes } = parse(
    `{${MACHINE}, "__proto__": {"Description": ${state}}, "constructor": {"Description": ${state}}}`,
  );
  expect(classes.map(({ name }) => name)).toEqual(['__proto__', 'constructor']);
  expect(classes.map(({ state }) => state.name)).toEqual(['dev', 'dev']);
  expect(({} as { Description?: unknown }).Description).toBeUndefined();
});

describe('what is no dump ends in E_VMSTATE, which says where', () => {
  test.each([
    ['', 'not usable JSON'],
    ['{', 'not usable JSON'],
    ['[]', 'an object is missing'],
    ['{}', 'vmschkmachine'],
    ['{"vmschkmachine": {"Name": 7}}', 'vmschkmachine / Name'],
    [`{${MACHINE}, "a": 1}`, 'vmstate / a'],
    [`{${MACHINE}, "a": {}}`, 'a / Description'],
    [`{${MACHINE}, "a": {"Description": {"name": "x"}}}`, 'version_id'],
    [`{${MACHINE}, "a": {"Description": {${DEVICE}, "Fields": {}}}}`, 'a / Description / Fields'],
    [`{${MACHINE}, "a": {"Description": {${DEVICE}, "Fields": [1]}}}`, 'Fields[0]'],
    [
      `{${MACHINE}, "a": {"Description": {${DEVICE}, "Fields": [{"field": "f", "version_id": 0, "field_exists": false, "size": -1}]}}}`,
      'Fields[0] / size',
    ],
    [`{${MACHINE}, "a": {"Description": {${DEVICE}, "Subsections": [{}]}}}`, 'Subsections[0]'],
    [`{${MACHINE.replace('"Name"', '"name"')}}`, 'Name'],
    ['{"a": 1e400}', 'vmschkmachine'],
  ])('%s', (text, part) => {
    const error = refusal(text);
    expect(error).toBeInstanceOf(SpaprHtabError);
    expect(error.code).toBe('E_VMSTATE');
    expect(error.message).toContain(part);
  });

  test('nested too deeply, on purpose or by a description that holds itself', () => {
    expect(refusal('['.repeat(1_000_000)).code).toBe('E_LIMIT');
    const open = `{${DEVICE}, "Subsections": [`;
    const deep = `{${MACHINE}, "a": {"Description": ${open.repeat(5000)}${']}'.repeat(5000)}}}`;
    expect(refusal(deep).message).toContain('nested too deeply');
  });

  test('too long, also from what has no end', async () => {
    expect(refusal(new Uint8Array(DEFAULT_LIMITS.vmstateBytes + 1)).code).toBe('E_LIMIT');
    await expect(readVmstateDump('/dev/zero')).rejects.toThrow(
      expect.objectContaining({ code: 'E_LIMIT' }),
    );
  });

  test('any other text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(refusal(text).code).toBe('E_VMSTATE');
      }),
    );
  });
});

test('a file is read as its text', async () => {
  const text = dumpText([described('dev', [field('a', 4)])]);
  expect(await readVmstateDump(scratchFile('dump.json', text))).toEqual(parseVmstateDump(text));
  await expect(readVmstateDump('/nowhere.json')).rejects.toThrow(
    expect.objectContaining({ code: 'E_IO' }),
  );
  await expect(
    readVmstateDump(scratchFile('x', text), { signal: AbortSignal.abort() }),
  ).rejects.toThrow(expect.objectContaining({ code: 'E_ABORTED' }));
});
