import { type Layout, moved, NO_LAYOUT } from '../layout.js';
import { archiveLayout } from '../layouts/archive.js';
import { blocksLayout, sectionLayout } from '../layouts/blocks.js';
import { libvirtLayout, qcow2Layout, streamStart } from '../layouts/containers.js';
import { streamLayout } from '../layouts/stream.js';

/** The layout of a file of any kind, by what it begins with. */
export async function anyLayout(bytes: Buffer): Promise<Layout> {
  const magic = bytes.toString('latin1', 0, 4);
  if (magic === 'QEVM') return streamLayout(bytes);
  if (magic === 'Libv') {
    const start = streamStart(bytes);
    const inner = start === undefined ? NO_LAYOUT : await streamLayout(bytes.subarray(start));
    const { fields, spans } = moved(inner, start ?? 0);
    const head = libvirtLayout(bytes);
    return { fields: [...head.fields, ...fields], spans: [...head.spans, ...spans] };
  }
  if (magic === 'QFI\xfb') return qcow2Layout(bytes);
  if (((bytes[0] ?? 0) & 0xf0) === 0x80) return archiveLayout(bytes);
  if (bytes.length >= 8 && bytes.readUInt32BE(0) < 64) return sectionLayout(bytes);
  return blocksLayout(bytes, true);
}

/** Whether positions may be those of something that is longer than the file: what was compressed, or a VM state. */
export function wrapsOthers(bytes: Buffer): boolean {
  const at = bytes.toString('latin1', 0, 7) === 'Libvirt' ? 28 : undefined;
  if (at !== undefined) return bytes.length >= 32 && bytes.readUInt32LE(at) !== 0;
  const heads = [
    '1f8b',
    '514649fb',
    '425a68',
    'fd377a',
    '28b52ffd',
    '894c5a4f',
    '04224d18',
    '02214c18',
  ];
  const head = bytes.toString('hex', 0, 4);
  return heads.some((magic) => head.startsWith(magic));
}
