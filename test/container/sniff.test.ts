import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { REFUSALS, SNIFF_LENGTH, sniffContainer } from '../../src/container/sniff.js';

const VECTORS: readonly (readonly [string, string])[] = [
  ['stream', '5145564d00000003'],
  ['libvirt', Buffer.from('LibvirtQemudSave').toString('hex')],
  ['libvirt', Buffer.from('LibvirtQemudPart').toString('hex')],
  ['qcow', '514649fb00000001'],
  ['qcow2', '514649fb00000002'],
  ['qcow2', '514649fb00000003'],
  ['gzip', '1f8b0800'],
  ['bzip2', '425a6839314159265359'],
  ['bzip2', '425a683117724538509000000000'],
  ['xz', 'fd377a585a000004'],
  ['zstd', '28b52ffd'],
  ['lz4', '04224d18'],
  ['lz4', '02214c18'],
  ['lzop', '894c5a4f000d0a1a0a'],
  ['elf', '7f454c460202'],
  ['kdump', '4b44554d50202020'],
  ['vmdk', '4b444d56'],
  ['vdi', `${'20'.repeat(64)}7f10dabe`],
  ['vhdx', '7668647866696c65'],
  ['vhd', '636f6e6563746978'],
  ['luks', '4c554b53babe'],
  ['qed', '51454400'],
  ['zip', '504b0304'],
];

describe('sniffContainer', () => {
  test.each(VECTORS)('%s: %s', (kind, hex) => {
    expect(sniffContainer(Buffer.from(hex, 'hex'))).toBe(kind);
    // More bytes change nothing, fewer are never enough for a wrong answer.
    expect(sniffContainer(Buffer.concat([Buffer.from(hex, 'hex'), Buffer.alloc(200, 7)]))).toBe(
      kind,
    );
  });

  test('says nothing about what has no magic', () => {
    expect(sniffContainer(new Uint8Array(0))).toBeUndefined();
    expect(sniffContainer(Buffer.alloc(SNIFF_LENGTH))).toBeUndefined();
    expect(sniffContainer(Buffer.from('BZhello world'))).toBeUndefined();
    expect(sniffContainer(Buffer.from('LibvirtQemudSav'))).toBeUndefined();
  });

  test('reads a view that begins inside a larger buffer', () => {
    expect(sniffContainer(Buffer.from('xxQEVM').subarray(2))).toBe('stream');
  });

  test('answers for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: SNIFF_LENGTH }), (bytes) => {
        sniffContainer(bytes);
      }),
    );
  });

  test('has words for every refusal', () => {
    for (const words of Object.values(REFUSALS)) expect(words.length).toBeGreaterThan(10);
  });
});
