import { BufferSource, describeStream } from 'spapr-htab';

/** Page entries of `ram`, and blocks of `spapr/htab`, that a part keeps. */
const KEPT_PAGES = 6;
const KEPT_BLOCKS = 12;
/** PARTs of a section that are kept, beside START and END. */
const KEPT_PARTS = 2;
/** Devices with more bytes than this are left out: tables of 2 MiB with one entry like the next. */
const LARGEST_DEVICE = 20_000;

/**
 * A copy of a real stream with only a few pages and blocks in each part of the large sections, and
 * without the largest devices. All else is as it was.
 */
export async function cutStream(bytes: Buffer): Promise<Buffer> {
  const info = await describeStream(new BufferSource(bytes));
  const parts = info.sections
    .flatMap(({ name, parts }) => parts.map((part, number) => ({ ...part, name, number })))
    .sort((a, b) => a.offset - b.offset);
  const footer = info.footers ? 5 : 0;
  const pieces: Buffer[] = [];
  let at = 0;
  for (const { name, kind, number, offset, payloadOffset, payloadLength } of parts) {
    const end = payloadOffset + payloadLength;
    const payload = bytes.subarray(payloadOffset, end);
    const large = name === 'ram' || name === 'spapr/htab';
    const tooLong = large ? kind === 'part' && number > KEPT_PARTS : payloadLength > LARGEST_DEVICE;
    if (tooLong) {
      pieces.push(bytes.subarray(at, offset));
      at = end + footer;
      continue;
    }
    pieces.push(bytes.subarray(at, payloadOffset));
    if (name === 'ram' && kind !== 'start') pieces.push(cutPages(payload));
    else if (name === 'spapr/htab' && kind !== 'start') pieces.push(cutBlocks(payload));
    else pieces.push(payload);
    at = end;
  }
  pieces.push(bytes.subarray(at));
  return Buffer.concat(pieces);
}

/** Word, flags and length of each entry of a `ram` payload (migration/ram.c RAM_SAVE_FLAG_*). */
export function ramEntries(payload: Buffer, from = 0): { at: number; end: number }[] {
  const entries: { at: number; end: number }[] = [];
  for (let at = from; at + 8 <= payload.length; ) {
    const flags = payload.readUInt16BE(at + 6) & 0xfff;
    let end = at + 8;
    const named = (flags & (2 | 8 | 0x40 | 0x100)) !== 0 && (flags & 0x20) === 0;
    if (named) end += 1 + (payload[end] ?? 0);
    if (flags & 8) end += 4096;
    else if (flags & 2) end += 1;
    else if (flags & 0x40 && end + 3 <= payload.length) end += 3 + payload.readUInt16BE(end + 1);
    else if (flags & 0x100 && end + 4 <= payload.length) end += 4 + payload.readUInt32BE(end);
    if (end > payload.length) break;
    entries.push({ at, end });
    if (flags & 0x10 || flags & 4) break;
    at = end;
  }
  return entries;
}

function cutPages(payload: Buffer): Buffer {
  const entries = ramEntries(payload);
  const kept = entries.slice(0, KEPT_PAGES);
  const last = entries.at(-1);
  if (last === undefined || entries.length <= KEPT_PAGES) return payload;
  const end = kept.at(-1)?.end ?? 0;
  return Buffer.concat([payload.subarray(0, end), payload.subarray(last.at)]);
}

function cutBlocks(payload: Buffer): Buffer {
  if (payload.length < 12 || payload.readUInt32BE(0) !== 0) return payload;
  let at = 4;
  for (let count = 0; count < KEPT_BLOCKS && at + 8 < payload.length; count++) {
    const end = at + 8 + payload.readUInt16BE(at + 4) * 16;
    if (end > payload.length - 8) break;
    at = end;
  }
  return Buffer.concat([payload.subarray(0, at), payload.subarray(-8)]);
}
