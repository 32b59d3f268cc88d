import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  convert,
  extractRam,
  HashPageTable,
  type HptFormat,
  inspect,
  type OutputFormat,
  openHpt,
  type RewriteOptions,
  type RewriteResult,
  rewrite,
} from 'spapr-htab';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Programs } from '../../fixtures/capture/programs.js';
import { LoadedGuest } from './guest.js';
import { machineTypes, qemuPrograms } from './programs.js';
import {
  beats,
  beatText,
  type CountingGuest,
  countingGuest,
  destinationArguments,
  linuxGuest,
  type SavedGuest,
  type SavedState,
  saveGuest,
} from './saved.js';

const programs = await qemuPrograms('that guests go on from rewritten snapshots');
const CACHE = fileURLToPath(new URL('../.cache/linux', import.meta.url));
const XML = '<domain type="qemu"><name>rewritten</name></domain>';

/** How long a guest may take to say three more lines; a machine can be busy. */
const SECONDS = 120;
/** mapped-ram is new in QEMU 9.0. */
const hasMapped = ({ major }: Programs): boolean => major >= 9;

for (const { version } of programs.filter((one) => !hasMapped(one))) {
  console.warn(`\n!!! QEMU ${version} HAS NO MAPPED-RAM: IT IS NOT TESTED WITH IT !!!\n`);
}

/** The table without what has no V bit, which QEMU takes in and does not write out again. */
async function tableOf(path: string, snapshot?: string): Promise<HashPageTable> {
  await using hpt = await openHpt(path, { snapshot });
  return await HashPageTable.from((await hpt.table()).items());
}

async function boltedOf(table: HashPageTable): Promise<HashPageTable> {
  return HashPageTable.from(table.items({ boltedOnly: true }));
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece);
  return hash.digest('hex');
}

/** Where the stream of a libvirt image begins (virQEMUSaveHeader, src/qemu/qemu_saveimage.h). */
async function streamOfImage(path: string): Promise<number> {
  const file = await open(path);
  try {
    const header = Buffer.alloc(92);
    await file.read(header, 0, header.length, 0);
    expect(header.toString('latin1', 0, 16)).toBe('LibvirtQemudSave');
    return header.length + header.readUInt32LE(20);
  } finally {
    await file.close();
  }
}

describe.each(programs)('QEMU $version', (qemu) => {
  let folder = '';
  let made = 0;
  const fresh = (name: string): string => join(folder, `${made++}-${name}`);
  const types = machineTypes(qemu);
  const [machine = ''] = types;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'spapr-htab-rewrite-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  interface Wanted {
    readonly state: SavedState;
    readonly table: HashPageTable;
    readonly uri?: string;
    readonly machine?: string;
    readonly mapped?: boolean;
  }

  /** Loads a file and lets the guest go on; fails unless all is as it was but for the table. */
  async function goesOn(guest: CountingGuest, path: string, wanted: Wanted): Promise<void> {
    await using loaded = await LoadedGuest.load({
      args: destinationArguments(guest, wanted.machine ?? machine),
      uri: wanted.uri ?? (wanted.mapped ? `file:${path}` : `exec:cat '${path}'`),
      capabilities: wanted.mapped ? ['mapped-ram'] : [],
      program: qemu.qemu,
    });
    if (loaded === undefined) throw new Error('this QEMU has no mapped-ram');
    const again = await tableOf(await loaded.again());
    expect(again.counts()).toEqual(wanted.table.counts());
    expect(again.equals(wanted.table)).toBe(true);
    const before = beats(guest, wanted.state.console);
    const sum = before[0]?.sum ?? '';
    const last = before.at(-1)?.number ?? 0;
    const console = await loaded.goOn(beatText(guest, last + 3), SECONDS);
    // A line can have been cut in two by the end of the first QEMU.
    const said = beats(guest, wanted.state.console + console);
    expect(said.length).toBeGreaterThanOrEqual(last + 2);
    expect(said).toEqual(said.map((_, i) => ({ number: i + 1, sum })));
  }

  /**
   * Saves a guest that goes on in the same QEMU from what was saved. QEMU 7.2 can lose one (rearm.ts),
   * and what a rewritten file does there would say nothing.
   */
  async function save(guest: CountingGuest, place: string, live: boolean): Promise<SavedGuest> {
    const how = { folder: place, machine, mapped: hasMapped(qemu), live };
    for (let left = 4; ; left--) {
      const saved = await saveGuest(guest, qemu, how);
      const { paused: state } = saved;
      try {
        await goesOn(guest, state.path, { state, table: await tableOf(state.path) });
        return saved;
      } catch (error) {
        if (left <= 1) throw error;
      }
    }
  }

  /** Whether a part before the last one has blocks. */
  async function hasEarlierBlocks(path: string): Promise<boolean> {
    await using hpt = await openHpt(path);
    let blocks = false;
    let earlier = false;
    for await (const { type } of hpt.items()) {
      if (type === 'part') earlier ||= blocks;
      if (type === 'blocks') blocks = true;
    }
    return earlier;
  }

  async function rewritten(
    state: SavedState,
    options: RewriteOptions,
  ): Promise<{ path: string; done: RewriteResult }> {
    const path = fresh('rewritten');
    return { path, done: await rewrite(state.path, path, options) };
  }

  /** Tests for either guest; `get` skips a test where the guest could not be had. */
  function forEither(get: (context: { skip: (note?: string) => never }) => SavedGuest): void {
    test('no edit', async (context) => {
      const { paused: state } = get(context);
      const { path, done } = await rewritten(state, {});
      // So the guest goes on from it: it did from the other file.
      expect(done.identical).toBe(true);
      expect(await sha256(path)).toBe(await sha256(state.path));
    });

    test.for<HptFormat>(['section', 'kernel', 'image', 'archive'])(
      'its own HPT as %s',
      async (to, context) => {
        const { guest, paused: state } = get(context);
        const htab = fresh(to);
        await convert(state.path, htab, { to });
        const { path, done } = await rewritten(state, { htab, htabOptions: { from: to } });
        // These two keep the payloads, and the others put all blocks into the last, where a QEMU that
        // had no time for them before has put them too.
        const keeps = to === 'section' || to === 'archive';
        if (keeps || (await hasEarlierBlocks(state.path))) expect(done.identical).toBe(keeps);
        if (keeps) expect(await sha256(path)).toBe(await sha256(state.path));
        const table = await tableOf(state.path);
        expect(done.hpt?.after).toMatchObject({ order: 21, entries: table.counts().valid });
        if (!keeps) await goesOn(guest, path, { state, table });
      },
    );

    test('only the bolted entries', async (context) => {
      const { guest, paused: state } = get(context);
      const { path } = await rewritten(state, { boltedOnly: true });
      const before = await tableOf(state.path);
      const table = await boltedOf(before);
      expect(table.counts().bolted).toBe(before.counts().bolted);
      expect(table.counts().valid).toBe(before.counts().bolted);
      expect(before.counts().valid).toBeGreaterThan(before.counts().bolted);
      await goesOn(guest, path, { state, table });
    });

    test('compact', async (context) => {
      const saved = get(context);
      const state = saved.live ?? saved.paused;
      const { path, done } = await rewritten(state, { compact: true });
      const table = await tableOf(state.path);
      const { before, after } = done.hpt ?? {};
      expect(after?.entries).toBe(table.counts().valid);
      expect(after?.bytes).toBeLessThanOrEqual(before?.bytes ?? 0);
      if (saved.live !== undefined && before !== undefined) {
        expect(before.entries).toBeGreaterThanOrEqual(table.counts().valid);
      }
      await goesOn(saved.guest, path, { state, table });
    });

    test.for(types.slice(1, 3))('as %s', async (older, context) => {
      const { guest, paused: state } = get(context);
      const { path } = await rewritten(state, { machine: older });
      const { stream } = await inspect(path);
      expect(stream?.configuration?.machine).toBe(older);
      await goesOn(guest, path, { state, table: await tableOf(state.path), machine: older });
    });

    test('snapshot of a qcow2 image as a stream, compact', async (context) => {
      const { guest, image: state } = get(context);
      const options = { snapshot: 'one', compact: true };
      const { path } = await rewritten(state, options);
      await goesOn(guest, path, { state, table: await tableOf(state.path, 'one') });
    });

    test
      .skipIf(!hasMapped(qemu))
      .for<RewriteOptions>([
        {},
        { compact: true },
        { boltedOnly: true },
        { machine: types[1], compact: true },
        { container: 'libvirt', xml: XML, compact: true },
      ])('mapped-ram: %o', async (options, context) => {
      const { guest, mapped: state } = get(context);
      if (state === undefined) throw new Error('not saved with mapped-ram');
      const { path } = await rewritten(state, options);
      const ram = fresh('ram');
      const expected = fresh('ram');
      await extractRam(state.path, expected);
      await extractRam(path, ram);
      expect(await sha256(ram)).toBe(await sha256(expected));
      const before = await tableOf(state.path);
      const at = options.container === undefined ? 0 : await streamOfImage(path);
      await goesOn(guest, path, {
        state,
        table: options.boltedOnly ? await boltedOf(before) : before,
        mapped: true,
        uri: at === 0 ? `file:${path}` : `file:${path},offset=${at}`,
        ...(options.machine !== undefined && { machine: options.machine }),
      });
    });
  }

  /** libvirt hands QEMU what is behind the header, through a program that decompresses it. */
  async function viaLibvirt(
    guest: CountingGuest,
    state: SavedState,
    compress: OutputFormat,
    more: RewriteOptions = {},
  ): Promise<void> {
    const { path } = await rewritten(state, { container: 'libvirt', xml: XML, compress, ...more });
    const at = await streamOfImage(path);
    const program = compress === 'none' ? '' : ` | ${compress} -dc`;
    await goesOn(guest, path, {
      state,
      table: await tableOf(state.path),
      uri: `exec:tail -c +${at + 1} '${path}'${program}`,
      ...(more.machine !== undefined && { machine: more.machine }),
    });
  }

  describe('a guest without translation', () => {
    let saved: SavedGuest;
    beforeAll(async () => {
      const place = mkdtempSync(join(folder, 'counting-'));
      saved = await save(await countingGuest(place), place, true);
    }, 600_000);

    forEither(() => saved);

    test.for<OutputFormat>(['none', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd'])(
      'as an image of libvirt, compression %s',
      (compress) => viaLibvirt(saved.guest, saved.paused, compress),
    );

    test('a live migration, compact, of another machine type, as an image of libvirt', () =>
      viaLibvirt(saved.guest, saved.live ?? saved.paused, 'zstd', {
        compact: true,
        ...(types[1] !== undefined && { machine: types[1] }),
      }));

    test.each([20, 22])('rehashed to order %i', async (order) => {
      const { guest, paused: state } = saved;
      const { path, done } = await rewritten(state, { order });
      const table = await tableOf(path);
      expect(table.order).toBe(order);
      const { valid, bolted } = (await tableOf(state.path)).counts();
      expect(table.counts().bolted).toBe(bolted);
      // Where the table grows there is room for all.
      if (order === 22) expect(table.counts().valid).toBe(valid);
      expect(table.counts().valid).toBe((done.rehashed?.bolted ?? 0) + (done.rehashed?.kept ?? 0));
      await goesOn(guest, path, { state, table });
    });
  });

  describe('Linux', () => {
    let saved: SavedGuest | undefined;
    beforeAll(async () => {
      let guest: CountingGuest;
      try {
        guest = await linuxGuest(CACHE);
      } catch (error) {
        console.warn(
          `\n!!! NO LINUX GUEST, WHICH IS NOT TESTED: ${(error as Error).message} !!!\n`,
        );
        return;
      }
      const place = mkdtempSync(join(folder, 'linux-'));
      saved = await save(guest, place, false);
    }, 600_000);

    forEither((context) => saved ?? context.skip('there is no Linux guest here'));

    test.for<OutputFormat>(['none', 'zstd'])(
      'as an image of libvirt, compression %s',
      (compress, context) => {
        const { guest, paused } = saved ?? context.skip('there is no Linux guest here');
        return viaLibvirt(guest, paused, compress);
      },
    );

    test('has a table of many entries', async (context) => {
      const { paused } = saved ?? context.skip('there is no Linux guest here');
      expect((await stat(paused.path)).size).toBeGreaterThan(2 ** 24);
      expect((await tableOf(paused.path)).counts().valid).toBeGreaterThan(2000);
    });
  });
});
