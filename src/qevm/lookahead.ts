import type { ByteReader } from '../bytes/reader.js';
import { FormatError } from '../errors.js';
import { exceeded } from '../limits.js';
import { ELEMENT, type PayloadWalker } from './elements.js';

/** Enough bytes to judge what stands next: the longest section header. */
export const LOOKAHEAD = 1 + 4 + 1 + 255 + 8;

/** Sections that the walk has met, by id. */
export type KnownIds = { has(id: number): boolean };

/**
 * Whether these bytes can be the beginning of a stream element: a section header with a name that
 * QEMU can have sent (migration/savevm.c save_section_header, QEMU 10.2), a PART or END of a section
 * that was started, a command, or the end of the stream.
 * @param atEnd whether the source ends with these bytes
 */
export function looksLikeElement(bytes: Buffer, ids: KnownIds, atEnd: boolean): boolean {
  switch (bytes[0]) {
    case ELEMENT.START:
    case ELEMENT.FULL: {
      const length = bytes[5] ?? 0;
      if (length === 0 || bytes.length < 6 + length + 8) return false;
      const name = bytes.subarray(6, 6 + length);
      const printable = name.every((c) => c > 0x20 && c < 0x7f);
      // Any other name must be of a new section. QEMU sends strlen() bytes of it.
      if (!printable && (name.includes(0) || ids.has(bytes.readUInt32BE(1)))) return false;
      return bytes.readUInt32BE(6 + length + 4) < 0x10000;
    }
    case ELEMENT.PART:
    case ELEMENT.END:
      return bytes.length >= 5 && ids.has(bytes.readUInt32BE(1));
    case ELEMENT.COMMAND:
      return bytes.length >= 5 && bytes.readUInt16BE(1) < 0x20;
    case ELEMENT.EOF:
      if (bytes.length === 1) return atEnd;
      return bytes[1] === ELEMENT.VMDESCRIPTION
        ? bytes.length >= 7 && bytes[6] === 0x7b
        : bytes.every((c) => c === 0);
    default:
      return false;
  }
}

/** Whether a footer with that id stands at the beginning of these bytes. */
export function isFooter(bytes: Buffer, id: number): boolean {
  return bytes.length >= 5 && bytes[0] === ELEMENT.FOOTER && bytes.readUInt32BE(1) === id;
}

/**
 * Walks a payload of unknown length up to its footer: the first one with the section's id that
 * something which looks like an element follows. The caller reports that it was found this way.
 * @throws FormatError `E_SECTION_LENGTH` when there is none; LimitError
 */
export function untilFooter(ids: KnownIds): PayloadWalker<void> {
  return async function* (reader, context) {
    const start = reader.offset;
    const { id } = context.section;
    for (;;) {
      const whole = await reader.tryEnsure(5 + LOOKAHEAD);
      const window = windowOf(reader);
      let at = window.indexOf(ELEMENT.FOOTER);
      for (; at >= 0; at = window.indexOf(ELEMENT.FOOTER, at + 1)) {
        if (whole && window.length - at < 5 + LOOKAHEAD) break;
        const behind = window.subarray(at + 5, at + 5 + LOOKAHEAD);
        if (isFooter(window.subarray(at), id) && looksLikeElement(behind, ids, !whole)) {
          reader.pos += at;
          return;
        }
      }
      if (!whole) {
        throw new FormatError('E_SECTION_LENGTH', 'the end of this section cannot be found', {
          offset: start,
          path: context.section.name,
          expected: `a footer with id ${id}`,
        });
      }
      if (reader.offset - start > reader.limits.footerSearchBytes) {
        const message = 'no footer was found within so many bytes of this section';
        const { name: path } = context.section;
        throw exceeded(reader.limits, 'footerSearchBytes', message, { offset: start, path });
      }
      // Keep what may be the beginning of the footer.
      reader.pos += at >= 0 ? at : Math.max(1, window.length - (4 + LOOKAHEAD));
      yield;
    }
  };
}

/**
 * Walks the payload of a device in a stream without footers and description (pseries-2.1, 2.2) up
 * to what looks like the header of the next device, or the end mark that ends the file. This is a
 * guess, which the caller reports: a guest could write such bytes into its own device state.
 */
export function untilNextDevice(ids: KnownIds): PayloadWalker<void> {
  return async function* (reader) {
    for (;;) {
      const whole = await reader.tryEnsure(LOOKAHEAD + 1);
      const window = windowOf(reader);
      const last = whole ? window.length - LOOKAHEAD : window.length;
      const end = findEnd(window);
      const stop = end < 0 ? last : Math.min(end, last);
      let at = window.indexOf(ELEMENT.FULL);
      while (at >= 0 && at < stop && !isNextDevice(window.subarray(at, at + LOOKAHEAD), ids)) {
        at = window.indexOf(ELEMENT.FULL, at + 1);
      }
      if (at < 0 || at >= stop) at = end < last ? end : -1;
      if (at >= 0) {
        reader.pos += at;
        return;
      }
      if (!whole) {
        // Nothing but the end mark follows the last device.
        reader.pos += window.length - (window.at(-1) === ELEMENT.EOF ? 1 : 0);
        return;
      }
      reader.pos += last;
      yield;
    }
  };
}

/** Where the end mark and a description begin, or -1. */
function findEnd(window: Buffer): number {
  const marks = Buffer.of(ELEMENT.EOF, ELEMENT.VMDESCRIPTION);
  let at = window.indexOf(marks);
  while (at >= 0 && window.toString('latin1', at + 6, at + 8) !== '{"') {
    at = window.indexOf(marks, at + 1);
  }
  return at;
}

/** Stricter than {@link looksLikeElement}, as nothing else vouches for it. */
function isNextDevice(bytes: Buffer, ids: KnownIds): boolean {
  if (bytes[0] !== ELEMENT.FULL || bytes.length < 6) return false;
  const id = bytes.readUInt32BE(1);
  const length = bytes[5] ?? 0;
  if (id > 0xffff || ids.has(id) || length < 3 || bytes.length < 6 + length + 8) return false;
  if (!/^[a-z][\w@:.,/-]+$/i.test(bytes.toString('latin1', 6, 6 + length))) return false;
  const version = bytes.readUInt32BE(6 + length + 4);
  return version > 0 && version < 64;
}

function windowOf(reader: ByteReader): Buffer {
  return Buffer.from(
    reader.buffer.buffer,
    reader.buffer.byteOffset + reader.pos,
    reader.end - reader.pos,
  );
}
