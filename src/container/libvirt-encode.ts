import { exceeded, type LimitOptions, limitsOf } from '../limits.js';
import {
  FIELD,
  HEADER_LENGTH,
  LIBVIRT_FORMATS,
  type LibvirtFormat,
  MAGIC_COMPLETE,
} from './libvirt.js';

/**
 * Writes what stands before the stream in a libvirt save image: the header, the domain's XML, the
 * cookie and padding (src/qemu/qemu_saveimage.c virQEMUSaveDataWrite, libvirt 11.3).
 */
export interface LibvirtEdits {
  /** How the stream behind it is stored. */
  readonly format: LibvirtFormat;
  /** Whether the guest goes on running after a restore. Default: as it was; true for a new image. */
  readonly running?: boolean | undefined;
  /** The domain's XML. Default: as it was; a new image needs one. */
  readonly xml?: string | undefined;
  /** Of them, `libvirtBytes` counts here. Default: DEFAULT_LIMITS. */
  readonly limits?: LimitOptions | undefined;
}

const VERSION = 2;
/** What libvirt leaves free in a new image, so that the XML can grow in place. */
const PADDING = 64 * 1024;

/**
 * The same image's header with edits: what no edit touches is the same bytes, padding included.
 * An XML that fits into the room that is there leaves the stream where it is.
 * @param before up to the stream, as it was read
 * @throws LimitError `E_LIMIT` for an XML that makes it longer than `libvirtBytes`
 */
export function editLibvirtHeader(before: Buffer, edits: LibvirtEdits): Buffer {
  const little = isLittle(before);
  const data =
    edits.xml === undefined ? undefined : withXml(before, edits.xml, little, edits.limits);
  const bytes = data === undefined ? Buffer.from(before) : data.bytes;
  const set = (at: number, value: number): void => setField(bytes, at, value, little);
  const raw = edits.format === 'raw';
  // Of an image of version 1 the format is not looked at.
  if (getField(before, FIELD.version, little) !== 1 || !raw) {
    set(FIELD.version, VERSION);
    set(FIELD.format, LIBVIRT_FORMATS.indexOf(edits.format));
  }
  if (edits.running !== undefined) set(FIELD.wasRunning, edits.running ? 1 : 0);
  if (data !== undefined) {
    set(FIELD.dataLength, bytes.length - HEADER_LENGTH);
    set(FIELD.cookieOffset, data.cookieOffset);
  }
  return bytes;
}

/** The header of a new image, little-endian. */
export function newLibvirtHeader(edits: LibvirtEdits & { readonly xml: string }): Buffer {
  const data = Buffer.concat([Buffer.from(edits.xml), Buffer.alloc(1 + PADDING)]);
  const header = Buffer.alloc(HEADER_LENGTH);
  header.write(MAGIC_COMPLETE, FIELD.magic, 'latin1');
  header.writeUInt32LE(VERSION, FIELD.version);
  header.writeUInt32LE(data.length, FIELD.dataLength);
  header.writeUInt32LE(edits.running === false ? 0 : 1, FIELD.wasRunning);
  header.writeUInt32LE(LIBVIRT_FORMATS.indexOf(edits.format), FIELD.format);
  return Buffer.concat([header, data]);
}

/** The data area with another XML and the cookie behind it, no shorter than it was. */
function withXml(
  before: Buffer,
  xml: string,
  little: boolean,
  options: LimitOptions | undefined,
): { bytes: Buffer; cookieOffset: number } {
  const cookieAt = getField(before, FIELD.cookieOffset, little);
  const area = before.subarray(HEADER_LENGTH);
  const text = Buffer.concat([Buffer.from(xml), Buffer.alloc(1)]);
  const parts = [before.subarray(0, HEADER_LENGTH), text];
  if (cookieAt > 0) parts.push(untilNul(area.subarray(cookieAt)), Buffer.alloc(1));
  const needed = parts.reduce((sum, part) => sum + part.length, 0);
  const padding = needed > before.length ? PADDING : before.length - needed;
  const dataLength = needed + padding - HEADER_LENGTH;
  const limits = limitsOf(options);
  if (dataLength > limits.libvirtBytes) {
    // Nothing here would read the image again.
    const message = 'the XML and the cookie of the image would be too long';
    throw exceeded(limits, 'libvirtBytes', message, { actual: dataLength });
  }
  parts.push(Buffer.alloc(padding));
  return { bytes: Buffer.concat(parts), cookieOffset: cookieAt > 0 ? text.length : 0 };
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

/** The version is 1 or 2: it tells the byte order. */
function isLittle(header: Buffer): boolean {
  return header.readUInt32LE(FIELD.version) <= VERSION;
}

function getField(bytes: Buffer, at: number, little: boolean): number {
  return little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
}

function setField(bytes: Buffer, at: number, value: number, little: boolean): void {
  if (little) bytes.writeUInt32LE(value, at);
  else bytes.writeUInt32BE(value, at);
}
