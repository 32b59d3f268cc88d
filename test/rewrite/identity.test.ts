import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { BufferSource, type ByteSource, rewrite } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { pipe, readAll } from '../container/support.js';
import { fixtureUrl } from '../helpers/fixtures.js';
import { SOURCE_KINDS, scratchFile, withSource } from '../helpers/sources.js';
import { smallGuest } from '../helpers/stream.js';
import { dissect, dissected, type FixtureStream, rewritten, STREAMS } from './support.js';

/** What a rewrite without edits gives: the file, or the VM state of an image. */
async function unedited(stream: FixtureStream): Promise<Buffer> {
  return stream.container === 'qcow2' ? (await dissected(stream)).inner : stream.bytes();
}

describe.each(STREAMS)('without edits: $title', (stream) => {
  const { bytes, options, container, file } = stream;

  test('from memory and from a pipe', async () => {
    const expected = await unedited(stream);
    for (const open of [() => new BufferSource(bytes()), () => pipe(bytes(), 100_000)]) {
      const source: ByteSource = open();
      const { bytes: out, result } = await rewritten(source, options);
      expect(out.equals(expected)).toBe(true);
      expect(result.identical).toBe(container !== 'qcow2');
      expect(result.bytes).toEqual({ before: bytes().length, after: out.length });
      const { before, after } = result.wrapping;
      if (container === 'qcow2') expect(before).toBeUndefined();
      else expect(before).toEqual(after);
      expect(result.machine.before).toBe(result.machine.after);
      expect(result.hpt?.before).toEqual(result.hpt?.after);
    }
  });

  test('from a path: of the file compressed once more', async () => {
    if (options.offset) return; // Where it begins is a place in the file that is not compressed.
    const path = fileURLToPath(fixtureUrl(file));
    if (container === 'qcow2') {
      const out = scratchFile('out');
      const result = await rewrite(path, out, options);
      expect(result.wrapping).toEqual({
        before: undefined,
        after: { container: 'raw', format: 'none' },
      });
      expect(readFileSync(out).equals(await unedited(stream))).toBe(true);
      return;
    }
    const { bytes: out, result } = await rewritten(path, options);
    expect(out.equals(readFileSync(path))).toBe(true);
    expect(result.identical).toBe(true);
  });
});

test('the VM state that a rewrite takes out of an image can be read at any place', async () => {
  const stream = STREAMS.find(({ file }) => file.includes('qcow2-deleted'));
  if (stream === undefined) throw new Error('no such fixture');
  const { bytes: out } = await rewritten(stream.bytes(), stream.options);
  const sizes = [1, 511, 70_001];
  expect((await readAll(new BufferSource(out), 0, sizes)).equals(out)).toBe(true);
  expect((await dissect(out)).info.eof).toBeDefined();
});

test.each(SOURCE_KINDS)('every source gives the same: $name', async (kind) => {
  const guest = smallGuest();
  const edited = await rewritten(guest, { compact: true, machine: 'pseries-10.0' });
  await withSource(kind, guest, async (source) => {
    expect((await rewritten(source)).bytes.equals(guest)).toBe(true);
  });
  await withSource(kind, guest, async (source) => {
    const { bytes } = await rewritten(source, { compact: true, machine: 'pseries-10.0' });
    expect(bytes.equals(edited.bytes)).toBe(true);
  });
});

test('what stands behind the stream stays', async () => {
  const zeros = Buffer.concat([smallGuest({ vmdesc: false }), Buffer.alloc(3000)]);
  const words = Buffer.concat([smallGuest(), Buffer.from('whatever the disk had there')]);
  for (const guest of [zeros, words]) {
    expect((await rewritten(guest)).bytes.equals(guest)).toBe(true);
    const { bytes, result } = await rewritten(guest, { compact: true });
    expect(result.identical).toBe(false);
    expect(bytes.length).toBeLessThan(guest.length);
    expect(bytes.subarray(-100).equals(guest.subarray(-100))).toBe(true);
  }
});
