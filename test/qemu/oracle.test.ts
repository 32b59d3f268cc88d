import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { extractRam, type HashPageTable, inspect, openHpt } from 'spapr-htab';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINERS, fixture, fixtureUrl } from '../helpers/fixtures.js';
import { installed, LoadedGuest, unpack } from './guest.js';

const hasImg = installed('qemu-img', 'the list of snapshots of qcow2 images');
const hasQemu = installed('qemu-system-ppc64', 'what QEMU itself reads from a snapshot');

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'spapr-htab-oracle-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const IMAGES = CONTAINERS.filter(({ container }) => container === 'qcow2');

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece);
  return hash.digest('hex');
}

async function tableOf(path: string, snapshot?: string): Promise<HashPageTable> {
  await using hpt = await openHpt(path, { snapshot });
  // Awaited here: the file is closed when this function is left.
  return await hpt.table();
}

async function sectionsOf(path: string, snapshot?: string): Promise<string[]> {
  const { stream } = await inspect(path, { snapshot });
  return stream?.sections.map(({ name, instance }) => `${name} ${instance}`) ?? [];
}

async function ramOf(path: string, snapshot?: string): Promise<string> {
  const output = join(folder, 'ram');
  await extractRam(path, output, { snapshot, force: true });
  return sha256(output);
}

describe.skipIf(!hasImg)('qemu-img', () => {
  test.each(IMAGES)('lists the same snapshots in $file', async (item) => {
    const path = await unpack(item, join(folder, 'image'));
    const said = execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' });
    const layer = (await inspect(path)).layers[0];
    if (layer?.kind !== 'qcow2') throw new Error('not seen to be qcow2');
    const ours = layer.snapshots.map((snapshot) => ({
      id: snapshot.id,
      name: snapshot.name,
      'vm-state-size': snapshot.vmStateSize,
      'date-sec': snapshot.dateSeconds,
      'date-nsec': snapshot.dateNanoseconds,
      'vm-clock-sec': Number(BigInt(snapshot.vmClock) / 1_000_000_000n),
      'vm-clock-nsec': Number(BigInt(snapshot.vmClock) % 1_000_000_000n),
      ...(snapshot.icount === null ? {} : { icount: Number(snapshot.icount) }),
    }));
    expect(ours.length).toBeGreaterThan(0);
    expect(JSON.parse(said).snapshots).toEqual(ours);
  });
});

describe.skipIf(!hasQemu)('QEMU loads the same and is asked what it has', () => {
  // One of each kind: memory of known content, of SLOF, compressed, XBZRLE, and a whole Linux table.
  test.for([
    'containers/plain.mig.gz',
    'containers/compress.mig.gz',
    'containers/xbzrle.mig.gz',
    'qemu/slof-7.2.mig.gz',
    'qemu/slof-2.1.mig.gz',
    'qemu/linux-p8-live.mig.gz',
    'qemu/linux-p9-hash.mig.gz',
  ])('stream %s', async (file, context) => {
    const path = fileURLToPath(fixtureUrl(file));
    await using guest = await LoadedGuest.incoming(fixture(file));
    if (guest === undefined) return context.skip('this QEMU has dropped a capability');
    const shared = !file.startsWith('containers') && !file.includes('slof');
    if (!shared) expect(await ramOf(path)).toBe(await sha256(await guest.memory()));
    const again = await guest.again();
    const table = await tableOf(path);
    expect(table.equals(await tableOf(again))).toBe(true);
    expect(table.counts().valid > 0).toBe(!file.includes('slof') && !file.includes('compress'));
    expect(await sectionsOf(again)).toEqual(await sectionsOf(path));
    if (!shared) expect(await ramOf(again)).toBe(await ramOf(path));
  });

  test.each([
    ['containers/qcow2-512.qcow2.gz', 'one'],
    ['containers/qcow2-64k.qcow2.gz', 'first'],
    ['containers/qcow2-64k.qcow2.gz', 'second'],
    ['containers/qcow2-slof.qcow2.gz', 'one'],
  ])('image %s, snapshot %s', async (file, snapshot) => {
    const item = fixture(file);
    const path = await unpack(item, join(folder, 'image'));
    await using guest = await LoadedGuest.snapshot(item, snapshot);
    expect(await ramOf(path, snapshot)).toBe(await sha256(await guest.memory()));
    const again = await guest.again();
    const table = await tableOf(path, snapshot);
    expect(table.equals(await tableOf(again))).toBe(true);
    expect(table.counts().valid > 0).toBe(!file.includes('slof'));
    expect(await sectionsOf(again)).toEqual(await sectionsOf(path, snapshot));
  });
});
