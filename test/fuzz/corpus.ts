import {
  BufferSource,
  ByteReader,
  decodeSection,
  encodeArchive,
  openContainer,
  parseVmdesc,
} from 'spapr-htab';
import { CONTAINERS, type Fixture, fixture, fixturesOf, load } from '../helpers/fixtures.js';
import { cutStream } from './cut.js';
import { gathered } from './digest.js';

/**
 * What real guests and kernels wrote, cut down: a fuzzer tries thousands of copies. Cut streams have
 * every section, a few pages of memory and a few blocks of each part.
 */

/** What the archives of the corpus say of where they come from. */
export const ORIGIN = {
  source: { kind: 'section' },
  byteOrder: null,
  host: { pageSize: 65536, kernel: 'Linux 6.1' },
  time: '2026-01-02T03:04:05.678Z',
};

const once = <T>(make: () => Promise<T>): (() => Promise<T>) => {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
};

/** Whole blocks from the beginning. */
function firstBlocks(bytes: Buffer, most: number, little: boolean): Buffer {
  let at = 0;
  while (at + 8 <= bytes.length) {
    const nValid = little ? bytes.readUInt16LE(at + 4) : bytes.readUInt16BE(at + 4);
    const end = at + 8 + nValid * 16;
    if (end > most) break;
    at = end;
  }
  return bytes.subarray(0, at);
}

export const kernelBlocks = once(async () => [
  ...fixturesOf('kernel').map((item) => firstBlocks(load(item), 24 * 1024, true)),
  load(fixture('kvm/p8-many-delta.htab.gz')),
]);

/** Two that are long enough for the addon to take blocks. */
export const longBlocks = once(async () => [
  load(fixture('kvm/p8-guest.htab.gz')),
  load(fixture('kvm/l9dis-guest.bolted.gz')),
]);

/** Streams whose sections are small enough, or can be cut. */
const STREAMS: readonly Fixture[] = [
  ...fixturesOf('snapshot').filter(({ file }) => !/slof-2\.[13]/.test(file)),
  ...CONTAINERS.filter(
    ({ container, holds, file }) =>
      container === 'stream' && holds.pages !== 'mapped' && !/block|offset|slof/.test(file),
  ),
];

export const streams = once(() => Promise.all(STREAMS.map((item) => cutStream(load(item)))));

/** Streams of which the memory is in regions of their own cannot be cut: positions are in them. */
export const sections = once(async () => {
  const found: Buffer[] = [];
  for (const stream of await streams()) {
    const section = await sectionOf(stream);
    if (section.length > 0) found.push(section);
  }
  return found;
});

async function sectionOf(stream: Buffer): Promise<Buffer> {
  const { describeStream } = await import('spapr-htab');
  const info = await describeStream(new BufferSource(stream));
  const parts = info.sections.find(({ name }) => name === 'spapr/htab')?.parts ?? [];
  return Buffer.concat(
    parts.map(({ payloadOffset: at, payloadLength }) => stream.subarray(at, at + payloadLength)),
  );
}

export const archives = once(async () => {
  const made: Buffer[] = [];
  for (const section of (await sections()).slice(0, 6)) {
    const items = decodeSection(new ByteReader(new BufferSource(section)));
    made.push(await gathered(encodeArchive(items, ORIGIN)));
  }
  return made;
});

/** libvirt images whose stream is not compressed, cut down. */
export const libvirtImages = once(async () => {
  const [raw] = CONTAINERS.filter(({ file }) => file.includes('libvirt-raw'));
  if (raw === undefined) throw new Error('no libvirt fixture');
  const bytes = load(raw);
  await using opened = await openContainer(new BufferSource(bytes));
  const header = bytes.subarray(0, opened.start);
  return [Buffer.concat([header, await cutStream(bytes.subarray(opened.start))])];
});

/** Whole files whose content is compressed: a program is started for each. */
export const compressedImages = once(async () =>
  CONTAINERS.filter(({ file }) => /libvirt-(gzip|xz|zstd|bzip2|lzop)/.test(file)).map(load),
);

export const qcow2Images = once(async () =>
  CONTAINERS.filter(({ file }) => /qcow2-(mapped|extended|v2)/.test(file)).map(load),
);

/** The descriptions of real devices. */
export const descriptions = once(async () => {
  const found: Buffer[] = [];
  for (const stream of await streams()) {
    const { findVmdesc } = await import('spapr-htab');
    const search = await findVmdesc(new BufferSource(stream), 0);
    if (search.found === undefined) continue;
    const { offset, length } = search.found;
    const json = stream.subarray(offset + 5, offset + 5 + length);
    parseVmdesc(json, 0);
    found.push(json);
  }
  return found;
});
