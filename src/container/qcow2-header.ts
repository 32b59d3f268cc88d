import { readExactly, readUpTo } from '../bytes/read.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError, LimitError, UnsupportedError, UsageError } from '../errors.js';
import { exceeded, type LimitOptions, type Limits, limitsOf } from '../limits.js';
import { printable } from '../printable.js';

export const QCOW2_MAGIC = 0x514649fb;

/** What the format itself allows (block/qcow2.h, QEMU 10.2); for the rest see `limits`. */
export const QCOW2_BOUNDS = {
  minClusterBits: 9,
  maxClusterBits: 21,
  backingFileName: 1023,
} as const;

/** Subclusters of a cluster in an image with extended L2 entries. */
export const SUBCLUSTERS = 32;

/** The header of a qcow2 image, as plain data. Sizes and positions are bytes below 2^53. */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** The size of the guest's disk now; a snapshot has its own. */
  readonly diskSize: number;
  /** Named only: it is never opened, since a VM state is never in it. */
  readonly backingFile: string | null;
  readonly encryption: 'none' | 'aes' | 'luks';
  readonly compression: 'deflate' | 'zstd';
  /** L2 entries of 16 bytes, with 32 subclusters a cluster. */
  readonly extendedL2: boolean;
  /** The guest's data stand in another file. */
  readonly externalData: boolean;
  /** The image was not closed: refcounts may be wrong, which a reader does not notice. */
  readonly dirty: boolean;
  /** QEMU found damage and marked the image. */
  readonly corrupt: boolean;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
}

const PATH = 'qcow2 header';
const V2_LENGTH = 72;
const V3_LENGTH = 104;
const COMPRESSION_TYPE_AT = 104;

const INCOMPATIBLE = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalData: 1n << 2n,
  compression: 1n << 3n,
  extendedL2: 1n << 4n,
} as const;
const KNOWN = 0x1fn;

const EXTENSION_END = 0;
const EXTENSION_FEATURE_NAMES = 0x6803f857;
const FEATURE_NAME_LENGTH = 48;

/**
 * Reads and checks the header of a qcow2 image that begins at byte 0 of a seekable source
 * (block/qcow2.c qcow2_do_open, QEMU 10.2; all fields are big-endian).
 *
 * What QEMU checks in order to write (refcounts, the active L1) is not looked at: a snapshot is
 * read through its own L1.
 *
 * @throws FormatError `E_MAGIC`, `E_TRUNCATED`, `E_CONTAINER`; UnsupportedError `E_VERSION`,
 *   `E_UNSUPPORTED`; LimitError `E_LIMIT`; UsageError `E_NOT_SEEKABLE`
 */
export async function readQcow2Header(
  source: ByteSource,
  limits?: LimitOptions,
): Promise<Qcow2Header> {
  if (!source.seekable || source.size === undefined) {
    throw new UsageError(
      'E_NOT_SEEKABLE',
      `${source.name} is a qcow2 image in a pipe, which can only be read from a file; save it first`,
    );
  }
  const bytes = Buffer.alloc(112);
  const length = await readUpTo(source, bytes, 0);
  const need = (count: number): void => {
    if (length >= count) return;
    throw new FormatError('E_TRUNCATED', 'the file ends inside the header', {
      offset: length,
      path: PATH,
      expected: `${count} bytes`,
      actual: String(length),
    });
  };
  need(8);
  if (bytes.readUInt32BE(0) !== QCOW2_MAGIC) {
    throw bad('E_MAGIC', 'this is no qcow2 image', 0, "'QFI\\xfb'", bytes.toString('hex', 0, 4));
  }
  const version = versionOf(bytes);
  need(version === 2 ? V2_LENGTH : V3_LENGTH);

  const clusterBits = bytes.readUInt32BE(20);
  if (clusterBits < QCOW2_BOUNDS.minClusterBits || clusterBits > QCOW2_BOUNDS.maxClusterBits) {
    throw bad('E_CONTAINER', 'no qcow2 image has this cluster size', 20, '9 to 21', clusterBits);
  }
  const clusterSize = 2 ** clusterBits;
  const headerLength = version === 2 ? V2_LENGTH : bytes.readUInt32BE(100);
  if (version === 3 && (headerLength < V3_LENGTH || headerLength > clusterSize)) {
    const expected = `${V3_LENGTH} to ${clusterSize}`;
    throw bad('E_CONTAINER', 'the length of the header cannot be', 100, expected, headerLength);
  }
  const backingOffset = bytes.readBigUInt64BE(8);
  if (backingOffset > BigInt(clusterSize)) {
    const message = 'the name of the backing file stands outside the first cluster';
    throw bad('E_CONTAINER', message, 8, `at most ${clusterSize}`, backingOffset);
  }

  const features = version === 2 ? 0n : bytes.readBigUInt64BE(72);
  if ((features & ~KNOWN) !== 0n) {
    const end = backingOffset === 0n ? clusterSize : Number(backingOffset);
    throw await unknownFeatures(source, features & ~KNOWN, headerLength, end);
  }
  const extendedL2 = (features & INCOMPATIBLE.extendedL2) !== 0n;
  if (extendedL2 && clusterSize / SUBCLUSTERS < 2 ** QCOW2_BOUNDS.minClusterBits) {
    const message = 'the clusters are too small to have subclusters';
    throw bad('E_CONTAINER', message, 20, 'at least 14 bits', clusterBits);
  }
  need(headerLength > COMPRESSION_TYPE_AT ? COMPRESSION_TYPE_AT + 1 : headerLength);
  const snapshotCount = bytes.readUInt32BE(60);
  return {
    version,
    clusterBits,
    clusterSize,
    diskSize: checkedNumber(bytes.readBigUInt64BE(24), 'the size of the disk', 24),
    backingFile: await backingFile(source, Number(backingOffset), bytes.readUInt32BE(16)),
    encryption: encryptionOf(bytes.readUInt32BE(32)),
    compression: compressionOf(bytes, headerLength, features),
    extendedL2,
    externalData: (features & INCOMPATIBLE.externalData) !== 0n,
    dirty: (features & INCOMPATIBLE.dirty) !== 0n,
    corrupt: (features & INCOMPATIBLE.corrupt) !== 0n,
    snapshotCount,
    snapshotsOffset: snapshotsOffset(
      bytes.readBigUInt64BE(64),
      snapshotCount,
      clusterSize,
      limitsOf(limits),
    ),
  };
}

/**
 * Why the VM states of this image cannot be read although its snapshots can be listed; undefined
 * when they can.
 */
export function qcow2Refusal(header: Qcow2Header): UnsupportedError | undefined {
  const details = { path: PATH };
  if (header.encryption !== 'none') {
    const what = header.encryption === 'aes' ? 'AES' : 'LUKS';
    return new UnsupportedError(
      'E_UNSUPPORTED',
      `the image is encrypted (${what}); convert it with QEMU first, or save the guest without encryption`,
      { ...details, offset: 32 },
    );
  }
  if (header.externalData) {
    return new UnsupportedError(
      'E_UNSUPPORTED',
      'the image keeps its data in another file; QEMU itself saves no VM state in such an image',
      { ...details, offset: 72 },
    );
  }
  return undefined;
}

/** Findings that do not stop a reader. */
export function qcow2Warnings(header: Qcow2Header): string[] {
  return header.corrupt
    ? ['QEMU marked this image as corrupt; what is read from it may be wrong (`qemu-img check`)']
    : [];
}

/** @throws LimitError `E_LIMIT` when the value cannot be a position in a file. */
export function checkedNumber(value: bigint, what: string, offset: number, path = PATH): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw new LimitError('E_LIMIT', `${what} is larger than any file`, {
    offset,
    path,
    expected: 'below 2^53',
    actual: String(value),
  });
}

function bad(
  code: 'E_MAGIC' | 'E_CONTAINER',
  message: string,
  offset: number,
  expected: string,
  actual: string | number | bigint,
): FormatError {
  return new FormatError(code, message, { offset, path: PATH, expected, actual: String(actual) });
}

function versionOf(bytes: Buffer): 2 | 3 {
  const version = bytes.readUInt32BE(4);
  if (version === 2 || version === 3) return version;
  throw new UnsupportedError('E_VERSION', 'this version of qcow2 is not known', {
    offset: 4,
    path: PATH,
    expected: '2 or 3',
    actual: String(version),
  });
}

function encryptionOf(method: number): Qcow2Header['encryption'] {
  if (method === 0) return 'none';
  if (method === 1) return 'aes';
  if (method === 2) return 'luks';
  throw new UnsupportedError('E_UNSUPPORTED', 'this encryption method is not known', {
    offset: 32,
    path: PATH,
    expected: '0, 1 or 2',
    actual: String(method),
  });
}

/** A type other than deflate must be announced by its feature bit, and only then. */
function compressionOf(bytes: Buffer, headerLength: number, features: bigint): 'deflate' | 'zstd' {
  const type = headerLength > COMPRESSION_TYPE_AT ? bytes.readUInt8(COMPRESSION_TYPE_AT) : 0;
  if (type > 1) {
    throw new UnsupportedError('E_UNSUPPORTED', 'this compression type is not known', {
      offset: COMPRESSION_TYPE_AT,
      path: PATH,
      expected: '0 (deflate) or 1 (zstd)',
      actual: String(type),
    });
  }
  const announced = (features & INCOMPATIBLE.compression) !== 0n;
  if (announced !== (type !== 0)) {
    const message = 'the compression type and its feature bit contradict each other';
    throw bad('E_CONTAINER', message, 72, type === 0 ? 'bit 3 clear' : 'bit 3 set', features);
  }
  return type === 0 ? 'deflate' : 'zstd';
}

function snapshotsOffset(
  offset: bigint,
  count: number,
  clusterSize: number,
  limits: Limits,
): number {
  if (count > limits.qcow2Snapshots) {
    const message = 'the image has too many snapshots';
    const details = { offset: 60, path: PATH, actual: count };
    throw exceeded(limits, 'qcow2Snapshots', message, details);
  }
  if (count === 0) return 0;
  const position = checkedNumber(offset, 'the position of the snapshot table', 64);
  if (position % clusterSize !== 0) {
    const message = 'the snapshot table does not begin at a cluster';
    throw bad('E_CONTAINER', message, 64, `a multiple of ${clusterSize}`, position);
  }
  return position;
}

async function backingFile(source: ByteSource, at: number, length: number): Promise<string | null> {
  if (at === 0) return null;
  if (length > QCOW2_BOUNDS.backingFileName) {
    const expected = `at most ${QCOW2_BOUNDS.backingFileName} bytes`;
    throw bad('E_CONTAINER', 'the name of the backing file is too long', 16, expected, length);
  }
  const name = await readExactly(source, at, length, 'the name of the backing file', PATH);
  return name.toString('utf8');
}

/** Names unknown feature bits by the table of names that the image may carry for this purpose. */
async function unknownFeatures(
  source: ByteSource,
  bits: bigint,
  from: number,
  end: number,
): Promise<UnsupportedError> {
  const names = await featureNames(source, from, end);
  const words: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((bits >> BigInt(bit)) & 1n) === 0n) continue;
    const name = names.get(bit);
    words.push(name === undefined ? `bit ${bit}` : `bit ${bit} (${name})`);
  }
  return new UnsupportedError('E_UNSUPPORTED', 'the image uses a feature that is not known here', {
    offset: 72,
    path: PATH,
    expected: 'no incompatible feature above bit 4',
    actual: words.join(', '),
  });
}

/** Best effort: a damaged table names nothing. */
async function featureNames(
  source: ByteSource,
  from: number,
  end: number,
): Promise<Map<number, string>> {
  const names = new Map<number, string>();
  const area = Buffer.alloc(Math.max(0, end - from));
  const length = await readUpTo(source, area, from);
  for (let at = 0; at + 8 <= length; ) {
    const type = area.readUInt32BE(at);
    const size = area.readUInt32BE(at + 4);
    at += 8;
    if (type === EXTENSION_END || size > length - at) break;
    if (type === EXTENSION_FEATURE_NAMES) {
      for (let entry = at; entry + FEATURE_NAME_LENGTH <= at + size; entry += FEATURE_NAME_LENGTH) {
        if (area.readUInt8(entry) !== 0) continue;
        const name = area.toString('utf8', entry + 2, entry + FEATURE_NAME_LENGTH);
        names.set(area.readUInt8(entry + 1), printable(name.split('\0', 1)[0] ?? ''));
      }
    }
    at += Math.ceil(size / 8) * 8;
  }
  return names;
}
