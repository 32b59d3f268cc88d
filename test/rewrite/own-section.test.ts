import { BufferSource, convert } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { htabSection } from '../../fixtures/capture/sections.js';
import { pipe } from '../container/support.js';
import { smallGuest } from '../helpers/stream.js';
import { dissected, rewritten, STREAMS } from './support.js';

const section = (bytes: Buffer) => ({
  htab: new BufferSource(bytes),
  htabOptions: { from: 'section' as const },
});

describe.each(STREAMS)('its own section put back: $title', (stream) => {
  const { bytes, options, container } = stream;

  test('gives the same bytes', async () => {
    const { inner, start, section: own } = await dissected(stream);
    // Found once more by a search that walks nothing.
    expect(own.equals(htabSection(inner.subarray(start)).section)).toBe(true);
    const { bytes: out, result } = await rewritten(bytes(), { ...options, ...section(own) });
    expect(out.equals(container === 'qcow2' ? inner : bytes())).toBe(true);
    expect(result.identical).toBe(container !== 'qcow2');
    expect(result.hpt?.after).toEqual(result.hpt?.before);
  });

  test('recognised by its content, from a pipe into a pipe', async () => {
    const { inner, section: own } = await dissected(stream);
    const { bytes: out } = await rewritten(pipe(bytes(), 70_001), {
      ...options,
      htab: pipe(own, 999),
    });
    expect(out.equals(container === 'qcow2' ? inner : bytes())).toBe(true);
  });

  test('and after it was taken out of another edit', async () => {
    const { inner, start, section: own } = await dissected(stream);
    const edited = await rewritten(bytes(), {
      ...options,
      boltedOnly: true,
      container: 'raw',
      compress: 'none',
    });
    const { bytes: back } = await rewritten(edited.bytes, section(own));
    expect(back.equals(inner.subarray(start))).toBe(true);
  });
});

test('what convert writes is what goes back in', async () => {
  const guest = smallGuest();
  const pieces: Buffer[] = [];
  const write = async (bytes: Uint8Array) => void pieces.push(Buffer.from(bytes));
  await convert(new BufferSource(guest), { write }, { to: 'section' });
  const compacted = await rewritten(guest, { compact: true });
  const { bytes, result } = await rewritten(compacted.bytes, section(Buffer.concat(pieces)));
  expect(bytes.equals(guest)).toBe(true);
  expect(result.identical).toBe(false);
});

test('the snapshot itself is a replacement too', async () => {
  const guest = smallGuest();
  const compacted = await rewritten(guest, { compact: true });
  const { bytes } = await rewritten(compacted.bytes, { htab: new BufferSource(guest) });
  expect(bytes.equals(guest)).toBe(true);
});
