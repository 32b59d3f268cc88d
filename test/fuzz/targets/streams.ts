import fc from 'fast-check';
import {
  type ByteSource,
  checkSnapshot,
  describeStream,
  deviceToJSON,
  inspect,
  inspectDevices,
  readRam,
  type StreamInfo,
  verify as verifyFile,
} from 'spapr-htab';
import { described, dump, field } from '../../compat/support.js';
import { archives, kernelBlocks, libvirtImages, sections, streams } from '../corpus.js';
import { DigestFile, digest, textOf } from '../digest.js';
import { blocksFrom, shapes } from '../generate/blocks.js';
import { longLists, mappedMemory, sentMemory } from '../generate/ram.js';
import { deviceStreams, guests, libvirtImages as madeLibvirt } from '../generate/streams.js';
import { streamLayout } from '../layouts/stream.js';
import { must, type Parsed, type Target, type Valid } from '../target.js';
import { anyLayout, wrapsOthers } from './any.js';

/** The walk over a migration stream. */
export const stream: Target = {
  name: 'stream',
  variants: ['any'],
  feeds: 'any',
  valid: fc.oneof(guests, deviceStreams, sentMemory.map(unexpected)),
  seeds: streams,
  layout: streamLayout,
  parse: async (source, { bytes }) => {
    await using reading = source;
    const info = await describeStream(reading);
    contiguous(info, bytes.length);
    return { value: textOf(info), kind: kindOf(info), offsets: offsetsOf(info) };
  },
};

function unexpected({ bytes }: Valid): Valid {
  return { bytes };
}

/** Everything from the first section on belongs to something: an element, a command, or the end. */
function contiguous(info: StreamInfo, size: number): void {
  const footer = info.footers ? 5 : 0;
  const elements = [
    ...info.sections.flatMap(({ parts }) =>
      parts.map(({ offset, payloadOffset, payloadLength }) => ({
        from: offset,
        to: payloadOffset + payloadLength + footer,
      })),
    ),
    ...info.commands.map(({ offset, length }) => ({ from: offset, to: offset + 5 + length })),
  ].sort((a, b) => a.from - b.from);
  const configuration = info.configuration?.length ?? 0;
  let at = info.offset + 8 + configuration;
  for (const { from, to } of elements) {
    must(from === at && to >= from, 'partition', () => `an element at ${from}, not at ${at}`);
    at = to;
  }
  const end = info.eof ?? info.opaque?.offset;
  must(end === at && at <= size, 'partition', () => `the end at ${end}, not at ${at}`);
}

function kindOf({ sections, commands, warnings, hpt, ram, eof, footers }: StreamInfo): string {
  const codes = [...new Set(warnings.map(({ code }) => code))].sort().join();
  const counts = [sections.length, commands.length, ram.length].map((n) =>
    Math.ceil(Math.log2(n + 1)),
  );
  return `${counts} ${codes} ${hpt?.order} ${hpt?.radix} ${hpt?.parts} ${eof === undefined} ${footers}`;
}

function offsetsOf(info: StreamInfo): (number | undefined)[] {
  return [
    info.eof,
    info.vmdesc && info.vmdesc.offset + 5 + info.vmdesc.length,
    info.opaque?.offset,
    ...info.warnings.map(({ offset }) => offset),
  ];
}

/** Memory, of every kind. */
export const ram: Target = {
  name: 'ram',
  variants: ['largest', 'named'],
  feeds: 'any',
  valid: fc.oneof(
    { weight: 4, arbitrary: sentMemory },
    { weight: 1, arbitrary: longLists.map(({ bytes }) => ({ bytes, variant: 'largest' })) },
    guests.map(({ bytes }) => ({ bytes, variant: 'largest' })),
  ),
  seeds: streams,
  layout: streamLayout,
  parse: async (source, { variant }) => parseRam(source, variant),
};

/** Memory at fixed places in the file: positions in it point anywhere. */
export const mapped: Target = {
  name: 'mapped-ram',
  variants: ['largest'],
  feeds: 'seekable',
  valid: mappedMemory,
  layout: async (bytes) => {
    const { fields, spans } = await streamLayout(bytes);
    // Not the megabyte of nothing.
    return {
      fields: fields.filter(({ at }) => at < 4096),
      spans: spans.filter(({ to }) => to < 4096),
    };
  },
  parse: async (source, { variant }) => parseRam(source, variant),
};

async function parseRam(source: ByteSource, variant: string): Promise<Parsed> {
  const file = new DigestFile();
  await using reading = source;
  const block = variant === 'named' ? 'ppc_spapr.ram' : undefined;
  const result = await readRam(reading, { block }, file);
  must(file.size === result.size, 'size', () => `${file.size} bytes, not ${result.size}`);
  const codes = [...new Set(result.warnings.map(({ code }) => code))].sort().join();
  const kinds = [result.pages, result.zeroPages, result.xbzrlePages, result.compressedPages];
  return {
    value: `${textOf(result)} ${file.digest()}`,
    model: file.digest(),
    kind: `${codes} ${kinds.map((n) => Math.min(n, 2))} ${result.blocks.length} ${result.mapped}`,
    offsets: result.warnings.map(({ offset }) => offset),
  };
}

/** The state of devices by the description in the stream. */
export const devices: Target = {
  name: 'devices',
  variants: ['any'],
  feeds: 'any',
  valid: deviceStreams,
  seeds: streams,
  layout: streamLayout,
  parse: async (source, { bytes }) => {
    const found: string[] = [];
    const kinds = new Set<string>();
    const offsets: number[] = [];
    for await (const { tree, payloadOffset, payloadLength, ...rest } of inspectDevices(source)) {
      offsets.push(payloadOffset, payloadOffset + payloadLength);
      const json = tree && textOf(deviceToJSON(tree));
      found.push(`${textOf(rest)} ${payloadOffset} ${payloadLength} ${json}`);
      must((tree?.length ?? payloadLength) === payloadLength, 'size', () => `${tree?.length}`);
      must((tree?.undecoded ?? 0) <= payloadLength, 'size', () => `${tree?.undecoded} undecoded`);
      for (const { code } of tree?.warnings ?? []) kinds.add(code);
      kinds.add(`${rest.reason}`);
    }
    must(
      offsets.every((at) => at <= bytes.length),
      'size',
      () => 'a payload beyond the file',
    );
    return { value: found.join('\n'), kind: `${[...kinds].sort()} ${found.length}`, offsets };
  },
};

const DUMP = dump([
  described('d', [field('f0', 4), field('f1', 8), field('f2', 4, { num: 3 })]),
  described('timer', [field('data', 24)]),
  described('cpu', [field('env', 8), field('pvr', 4)]),
]);

/** What a target would refuse of a snapshot. */
export const check: Target = {
  name: 'check',
  variants: ['any'],
  feeds: 'any',
  valid: fc.oneof(deviceStreams, guests),
  seeds: streams,
  layout: streamLayout,
  parse: async (source) => {
    const report = await checkSnapshot(source, DUMP);
    const codes = report.sections.flatMap(({ reasons }) => reasons.map(({ code }) => code));
    return { value: textOf(report), kind: [...new Set(codes)].sort().join() };
  },
};

const anything = fc.oneof(
  guests,
  deviceStreams,
  madeLibvirt,
  shapes.map((list) => ({ bytes: blocksFrom(list, true) })),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => ({ bytes: Buffer.from(bytes) })),
);

async function allSeeds(): Promise<Buffer[]> {
  const lists = [streams, sections, archives, kernelBlocks, libvirtImages];
  return (await Promise.all(lists.map((list) => list()))).flat();
}

/** Whatever it is: told by its content, and described. Nothing says beforehand that it is valid. */
export const open: Target = {
  name: 'open',
  variants: ['any', 'order 18', 'section', 'image'],
  feeds: 'any',
  valid: guests.map(({ bytes }) => ({ bytes, variant: 'any' })),
  seeds: async () => [
    ...(await allSeeds()),
    ...fc.sample(anything, { numRuns: 100, seed: 7 }).map(({ bytes }) => bytes),
  ],
  layout: anyLayout,
  wraps: wrapsOthers,
  parse: async (source, { variant }) => {
    const order = variant === 'order 18' ? 18 : undefined;
    const from = variant === 'section' || variant === 'image' ? variant : undefined;
    const { name: _, size: __, refusal, ...facts } = await inspect(source, { order, from });
    const { format, byteOrder, hpt, layers, warnings } = facts;
    return {
      value: `${textOf(facts)} ${refusal?.code} ${refusal?.offset}`,
      kind: `${format} ${byteOrder} ${hpt?.order} ${layers.map(({ kind }) => kind)} ${refusal?.code} ${warnings.map(({ code }) => code)}`,
      offsets: [refusal?.offset, ...warnings.map(({ offset }) => offset)],
    };
  },
};

/** The whole examination. */
export const verify: Target = {
  name: 'verify',
  variants: ['any', 'order 18'],
  feeds: 'any',
  valid: guests.map(({ bytes }) => ({ bytes, variant: 'any' })),
  seeds: allSeeds,
  layout: anyLayout,
  wraps: wrapsOthers,
  parse: async (source, { variant }) => {
    const order = variant === 'order 18' ? 18 : undefined;
    const { name: _, ...report } = await verifyFile(source, { order });
    const codes = [...new Set(report.findings.map(({ code }) => code))].sort();
    return {
      value:
        digest(Buffer.from(textOf(report))) +
        report.findings.map(({ code, offset }) => ` ${code} ${offset}`),
      kind: `${report.format} ${report.ok} ${codes}`,
      offsets: report.findings.map(({ offset }) => offset),
    };
  },
};
