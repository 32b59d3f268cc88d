import { type Field, fieldsAt, type Layout, type Span } from '../layout.js';

/** Numbers of a libvirt header; its data, and what follows. */
export function libvirtLayout(bytes: Buffer): Layout {
  const little = bytes.length < 20 || bytes.readUInt32LE(16) < 0x10000;
  const fields = [{ at: 0, width: 8 as const }, ...fieldsAt(16, [4, 4, 4, 4, 4, 4], little)];
  const start = streamStart(bytes) ?? bytes.length;
  return {
    fields,
    spans: [
      { from: 0, to: 92 },
      { from: 92, to: start },
      { from: start, to: bytes.length },
    ],
  };
}

/** Where the stream of a libvirt image begins. */
export function streamStart(bytes: Buffer): number | undefined {
  if (bytes.length < 92) return undefined;
  const little = bytes.readUInt32LE(16) < 0x10000;
  const start = 92 + (little ? bytes.readUInt32LE(20) : bytes.readUInt32BE(20));
  return start < bytes.length ? start : undefined;
}

const HEADER = [4, 4, 8, 4, 4, 8, 4, 4, 8, 8, 4, 4, 8, 8, 8, 8, 4, 4, 1] as const;

/** Header, extensions, table of snapshots, their L1 tables and the first L2 tables. */
export function qcow2Layout(bytes: Buffer): Layout {
  const fields: Field[] = fieldsAt(0, HEADER);
  const spans: Span[] = [{ from: 0, to: 112 }];
  if (bytes.length < 112) return { fields, spans };
  fields.push(...fieldsAt(112, [4, 4, 4, 4]));
  const clusterSize = 2 ** (bytes.readUInt32BE(20) & 31);
  let at = Number(bytes.readBigUInt64BE(64));
  for (let count = bytes.readUInt32BE(60); count > 0 && count < 100; count--) {
    if (at + 40 > bytes.length) break;
    const extra = bytes.readUInt32BE(at + 36);
    const length = 40 + extra + bytes.readUInt16BE(at + 12) + bytes.readUInt16BE(at + 14);
    fields.push(...fieldsAt(at, [8, 4, 2, 2, 4, 4, 8, 4, 4, 8, 8, 8]));
    spans.push({ from: at, to: at + length });
    tables(
      bytes,
      Number(bytes.readBigUInt64BE(at)),
      bytes.readUInt32BE(at + 8),
      clusterSize,
      fields,
      spans,
    );
    at += Math.ceil(length / 8) * 8;
  }
  return { fields, spans };
}

function tables(
  bytes: Buffer,
  l1: number,
  count: number,
  clusterSize: number,
  fields: Field[],
  spans: Span[],
): void {
  for (let index = 0; index < Math.min(count, 64); index++) {
    const at = l1 + index * 8;
    if (at + 8 > bytes.length) return;
    fields.push({ at, width: 8 });
    const l2 = Number(bytes.readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n);
    if (l2 === 0 || l2 + 8 > bytes.length) continue;
    spans.push({ from: l2, to: Math.min(bytes.length, l2 + clusterSize) });
    for (let entry = l2; entry < Math.min(l2 + 512, bytes.length - 8); entry += 8) {
      fields.push({ at: entry, width: 8 }, { at: entry, width: 1 });
    }
  }
}
