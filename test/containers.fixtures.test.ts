import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { createGunzip } from 'node:zlib';
import {
  deviceToJSON,
  extractRam,
  IterableSource,
  inspect,
  inspectDevices,
  openHpt,
  type StreamInfo,
} from 'spapr-htab';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINERS, type ContainerFixture, fixtureUrl } from './helpers/fixtures.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'spapr-htab-containers-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function sha256(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}

interface Expected {
  readonly name: string;
  /** What asks for this stream. */
  readonly options: { readonly snapshot?: string; readonly offset?: number };
  readonly section: string;
  readonly ram: string | undefined;
}

/** What the manifest says for each stream in the file. */
function streams({ offset, sectionSha256, ramSha256 }: ContainerFixture): Expected[] {
  const ram = (name: string) => (typeof ramSha256 === 'object' ? ramSha256[name] : undefined);
  if (typeof sectionSha256 !== 'string') {
    return Object.entries(sectionSha256).map(([snapshot, section]) => ({
      name: snapshot,
      options: { snapshot },
      section,
      ram: ram(snapshot),
    }));
  }
  const only = typeof ramSha256 === 'string' ? ramSha256 : undefined;
  return [{ name: 'the stream', options: { offset }, section: sectionSha256, ram: only }];
}

test('there are containers of each kind, and of each way to store pages', () => {
  const kinds = new Set(CONTAINERS.map(({ container }) => container));
  expect([...kinds].sort()).toEqual(['libvirt', 'qcow2', 'stream']);
  const pages = new Set(CONTAINERS.map(({ holds }) => holds.pages));
  expect(pages).toEqual(new Set([undefined, 'xbzrle', 'compressed', 'mapped', 'shared']));
});

describe.each(CONTAINERS)('$file', (item) => {
  let path = '';
  beforeAll(async () => {
    path = join(folder, 'container');
    const packed = createReadStream(fixtureUrl(item.file));
    await pipeline(packed, createGunzip(), createWriteStream(path));
    // Wrong here means that the fixture is damaged, not that the package is.
    expect(await sha256(createReadStream(path))).toBe(item.sha256);
  });

  test.each(streams(item))('$name: its section, from the file', async ({ options, section }) => {
    await using hpt = await openHpt(path, options);
    expect(hpt.format).toBe('snapshot');
    expect(await sha256(hpt.encode('section'))).toBe(section);
    expect(hpt.machine).toBe(item.machine);
  });

  test.each(streams(item))('$name: its section, from a pipe', async ({ options, section }) => {
    const source = new IterableSource(createReadStream(path));
    await using hpt = await openHpt(source, options);
    expect(await sha256(hpt.encode('section'))).toBe(section);
  });

  test.each(streams(item))('$name: every section is named', async ({ options }) => {
    const info = await inspect(path, options);
    expect(info.refusal).toBeUndefined();
    expect(info.layers.map(({ kind }) => kind)).toEqual(expectedLayers(item));
    expect(info.hpt?.order).toBe(item.order);
    const sections = info.stream?.sections ?? [];
    const names = sections.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['timer', 'ram', 'spapr/htab', 'spapr']));
    expect(names).toEqual(expect.arrayContaining(item.holds.sections));
    if (info.stream === undefined) throw new Error('no stream');
    expect(gaps(info.stream)).toEqual([]);
    expect(info.stream?.vmdesc?.length).toBeGreaterThan(1000);
    // What is behind a decompressor is read once, forward: the description is not known in time.
    const [layer] = info.layers;
    const forward = layer?.kind === 'libvirt' && !['raw', 'sparse'].includes(layer.format);
    const codes = info.warnings.map(({ code }) => code);
    expect(codes).toEqual(forward ? ['W_LENGTH_BY_FOOTER'] : []);
  });

  test('the snapshots are listed', async () => {
    if (item.container !== 'qcow2') return;
    const info = await inspect(path);
    const layer = info.layers.find(({ kind }) => kind === 'qcow2');
    if (layer?.kind !== 'qcow2') throw new Error('no qcow2 layer');
    const listed = layer.snapshots.map(({ id, name, vmStateSize }) => ({ id, name, vmStateSize }));
    expect(listed).toEqual(item.snapshots);
    const withState = item.snapshots.filter(({ vmStateSize }) => vmStateSize > 0);
    if (withState.length > 1) expect(info.refusal).toMatchObject({ code: 'E_SNAPSHOT' });
    const disk = item.snapshots.find(({ vmStateSize }) => vmStateSize === 0);
    if (disk === undefined) return;
    await expect(openHpt(path, { snapshot: disk.name })).rejects.toMatchObject({
      code: 'E_UNSUPPORTED',
    });
  });

  test.each(streams(item))('$name: the memory is that of pmemsave', async ({ options, ram }) => {
    const output = join(folder, 'ram');
    const made = extractRam(path, output, { ...options, force: true });
    const { pages } = item.holds;
    if (pages === 'shared') {
      await expect(made).rejects.toMatchObject({ code: 'E_UNSUPPORTED' });
      return;
    }
    const result = await made;
    expect(result).toMatchObject({ block: 'ppc_spapr.ram', mapped: pages === 'mapped' });
    if (pages === 'xbzrle') expect(result.xbzrlePages).toBeGreaterThan(8);
    if (pages === 'compressed') expect(result.compressedPages).toBeGreaterThan(8);
    if (ram !== undefined) expect(await sha256(createReadStream(output))).toBe(ram);
    else expect(item.file).toContain('background-snapshot');
  });
});

test('two hotplug events that wait in a queue are both seen', async () => {
  const queues: string[] = [];
  const path = fileURLToPath(fixtureUrl('containers/pending-events.mig.gz'));
  for await (const { section, tree } of inspectDevices(path)) {
    if (section.name === 'spapr' && tree !== undefined)
      queues.push(JSON.stringify(deviceToJSON(tree)));
  }
  expect(queues.length).toBe(1);
  expect(queues[0]?.split('"spapr_event_log_entry"').length).toBe(3);
});

/** Where nothing is said to stand between the first section and the end mark. */
function gaps({ sections, commands, footers, eof }: StreamInfo): number[] {
  const footer = footers ? 5 : 0;
  const spans = [
    ...sections.flatMap(({ parts }) =>
      parts.map(({ offset, payloadOffset, payloadLength }) => ({
        offset,
        end: payloadOffset + payloadLength + footer,
      })),
    ),
    ...commands.map(({ offset, length }) => ({ offset, end: offset + 5 + length })),
  ].sort((a, b) => a.offset - b.offset);
  const ends = [...spans.slice(1).map(({ offset }) => offset), eof];
  const found = spans.filter(({ end }, i) => end !== ends[i]).map(({ offset }) => offset);
  expect(spans.length).toBeGreaterThan(10);
  return found;
}

function expectedLayers({ container }: ContainerFixture): string[] {
  return container === 'stream' ? [] : [container];
}
