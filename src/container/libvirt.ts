import { readExactly } from '../bytes/read.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError, UnsupportedError } from '../errors.js';
import { exceeded, type LimitOptions, type Limits, limitsOf } from '../limits.js';

/** Bytes of the header, and the place of its fields (qemu_saveimage_format.h, libvirt). */
export const HEADER_LENGTH = 92;
export const FIELD = {
  magic: 0,
  version: 16,
  dataLength: 20,
  wasRunning: 24,
  format: 28,
  cookieOffset: 32,
} as const;

export const MAGIC_COMPLETE = 'LibvirtQemudSave';
const MAGIC_PARTIAL = 'LibvirtQemudPart';
const MAX_VERSION = 2;

/** By the number in the header (qemu_saveimage.h, libvirt 11.3). */
export const LIBVIRT_FORMATS = ['raw', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'sparse'] as const;

export type LibvirtFormat = (typeof LIBVIRT_FORMATS)[number];

export function isLibvirtFormat(name: string): name is LibvirtFormat {
  return (LIBVIRT_FORMATS as readonly string[]).includes(name);
}

/** The header of a libvirt save image, as plain data. Offsets are positions in the file. */
export interface LibvirtHeader {
  /** Byte order of the host that wrote the image. */
  readonly byteOrder: 'little' | 'big';
  readonly version: number;
  /** False when libvirt did not finish: the stream may still be whole. */
  readonly complete: boolean;
  /** Whether the guest goes on running after a restore. */
  readonly wasRunning: boolean;
  /** How the stream is stored: of images of version 1 always `raw`. */
  readonly format: LibvirtFormat;
  /** Bytes between the header and the stream: XML, cookie and padding. */
  readonly dataLength: number;
  /** Where the cookie begins, relative to the XML; 0 when there is none. */
  readonly cookieOffset: number;
  /** Where the stream begins in the file: not aligned to anything. */
  readonly streamOffset: number;
  /** The domain's XML. */
  readonly xml: string;
  /** The hypervisor driver's own XML, if there is one. */
  readonly cookie: string | null;
  /** The header and all data behind it, as they stand in the file: up to the stream. */
  readonly bytes: Buffer;
}

const PATH = 'libvirt header';

/**
 * Reads the header of a libvirt save image: u32 fields in the byte order of the host that wrote
 * it, found by the version as libvirt does (src/qemu/qemu_saveimage.c qemuSaveImageReadHeader).
 * libvirt checks neither the data length nor the cookie's place against anything; this does.
 *
 * @throws FormatError `E_MAGIC`, `E_TRUNCATED`, `E_CONTAINER`; UnsupportedError `E_VERSION`,
 *   `E_UNSUPPORTED`; LimitError `E_LIMIT`
 */
export async function readLibvirtHeader(
  source: ByteSource,
  start = 0,
  limits?: LimitOptions,
): Promise<LibvirtHeader> {
  const header = await readExactly(source, start, HEADER_LENGTH, 'the header', PATH);
  const magic = header.toString('latin1', FIELD.magic, FIELD.version);
  if (magic !== MAGIC_COMPLETE && magic !== MAGIC_PARTIAL) {
    throw new FormatError('E_MAGIC', 'this is no libvirt save image', {
      offset: start,
      path: PATH,
      expected: `'${MAGIC_COMPLETE}'`,
      actual: `0x${header.toString('hex', 0, 16)}`,
    });
  }
  const byteOrder = orderOf(header, start);
  const field = (at: number): number =>
    byteOrder === 'little' ? header.readUInt32LE(at) : header.readUInt32BE(at);

  const version = field(FIELD.version);
  const dataLength = field(FIELD.dataLength);
  const cookieOffset = field(FIELD.cookieOffset);
  const format = formatOf(version, field(FIELD.format), start);
  checkData(dataLength, cookieOffset, start, limitsOf(limits));

  const data = await readExactly(
    source,
    start + HEADER_LENGTH,
    dataLength,
    'the XML of the domain',
    PATH,
  );
  const xmlEnd = cookieOffset === 0 ? dataLength : cookieOffset;
  return {
    byteOrder,
    version,
    complete: magic === MAGIC_COMPLETE,
    wasRunning: field(FIELD.wasRunning) !== 0,
    format,
    dataLength,
    cookieOffset,
    streamOffset: start + HEADER_LENGTH + dataLength,
    xml: untilNul(data.subarray(0, xmlEnd)),
    cookie: cookieOffset === 0 ? null : untilNul(data.subarray(cookieOffset)),
    bytes: Buffer.concat([header, data]),
  };
}

function orderOf(header: Buffer, start: number): 'little' | 'big' {
  const little = header.readUInt32LE(FIELD.version);
  const big = header.readUInt32BE(FIELD.version);
  if (little >= 1 && little <= MAX_VERSION) return 'little';
  if (big >= 1 && big <= MAX_VERSION) return 'big';
  throw new UnsupportedError('E_VERSION', 'this version of the save image is not known', {
    offset: start + FIELD.version,
    path: PATH,
    expected: `1 to ${MAX_VERSION}`,
    actual: String(Math.min(little, big)),
  });
}

/** Version 1 is older than compression: whatever the field holds, the stream is stored raw. */
function formatOf(version: number, value: number, start: number): LibvirtFormat {
  if (version === 1) return 'raw';
  const format = LIBVIRT_FORMATS[value];
  if (format !== undefined) return format;
  throw new UnsupportedError('E_UNSUPPORTED', 'this format of the save image is not known', {
    offset: start + FIELD.format,
    path: PATH,
    expected: LIBVIRT_FORMATS.map((name, index) => `${index} (${name})`).join(', '),
    actual: String(value),
  });
}

function checkData(dataLength: number, cookieOffset: number, start: number, limits: Limits): void {
  if (dataLength === 0) {
    throw new FormatError('E_CONTAINER', 'the image has no room for the XML of the domain', {
      offset: start + FIELD.dataLength,
      path: PATH,
      expected: 'at least 1 byte',
      actual: '0',
    });
  }
  if (dataLength > limits.libvirtBytes) {
    throw exceeded(limits, 'libvirtBytes', 'the XML and its padding are longer than is accepted', {
      offset: start + FIELD.dataLength,
      path: PATH,
      actual: dataLength,
    });
  }
  if (cookieOffset >= dataLength) {
    throw new FormatError('E_CONTAINER', 'the cookie stands outside the data of the header', {
      offset: start + FIELD.cookieOffset,
      path: PATH,
      expected: `below ${dataLength}`,
      actual: String(cookieOffset),
    });
  }
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end === -1 ? bytes.length : end);
}

/** Longest tag that is looked at, and how many: real ones have below 100 characters. */
const MAX_TAG = 4096;
const MAX_TAGS = 16;

/**
 * The machine type in the XML of an image, of which the bytes up to the stream are given. libvirt
 * starts QEMU with it and does not look into the stream.
 */
export function machineOfXml(image: Buffer): string | undefined {
  const end = image.indexOf(0, HEADER_LENGTH);
  const header = image.subarray(0, end < 0 ? image.length : end);
  let at = HEADER_LENGTH;
  for (let tags = 0; tags < MAX_TAGS; tags++) {
    at = header.indexOf('<type ', at);
    if (at < 0) return undefined;
    const [tag] = header.toString('latin1', at, at + MAX_TAG).split('>', 1);
    const machine = /\smachine=["']([^"']+)["']/.exec(tag ?? '')?.[1];
    if (machine !== undefined) return machine;
    at++;
  }
  return undefined;
}

/** What is to be said where the stream is of another machine type than the XML; else undefined. */
export function otherMachine(image: Buffer, machine: string | undefined): string | undefined {
  const named = machineOfXml(image);
  if (named === undefined || machine === undefined || named === machine) return undefined;
  return `the XML of the domain asks for machine type ${named}, and the stream is of ${machine}`;
}
