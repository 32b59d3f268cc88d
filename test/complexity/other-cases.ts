import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { extractRam, HtabFd, inspect, SoftwareHtab } from 'spapr-htab';
import { makeLibvirt } from '../container/make-libvirt.js';
import { makeQcow2 } from '../container/make-qcow2.js';
import { block, R, run, V } from '../helpers/entries.js';
import { command, configuration, header, smallGuest } from '../helpers/stream.js';
import { type Case, fileOf, sizesTo, times, type Usage } from './case.js';

// From this folder and from that of the bundle alike.
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const COST = new URL('../complexity/cost.mjs', import.meta.url).href;

/** What the command line takes, in a process of its own. */
async function commandLine(folder: string, args: readonly string[]): Promise<Usage> {
  const place = mkdtempSync(join(folder, 'cost-'));
  const cost = join(place, 'cost');
  const child = spawn(process.execPath, ['--import', COST, MAIN, ...args], {
    stdio: 'ignore',
    env: { ...process.env, SPAPR_HTAB_TEST_COST: cost },
  });
  await new Promise((resolve) => child.on('close', resolve));
  const usage = JSON.parse(readFileSync(cost, 'utf8')) as Usage;
  rmSync(place, { recursive: true });
  return usage;
}

const cliCases: readonly Case[] = [
  ...(['info', 'verify'] as const).map(
    (verb): Case => ({
      name: `command line: ${verb}, warnings`,
      unit: 'warnings',
      sizes: sizesTo(60_000),
      prepare(size, folder) {
        const stream = function* (): Generator<Uint8Array> {
          yield header();
          yield configuration('pseries-7.2');
          yield* times(size, () => command(300, Buffer.alloc(0)));
          yield smallGuest().subarray(header().length + configuration('pseries-7.2').length);
        };
        const path = fileOf(folder, stream());
        return () => commandLine(folder, [verb, path]);
      },
    }),
  ),
];

const qcow2Cases: readonly Case[] = [
  {
    name: 'info: snapshots of a qcow2 image',
    unit: 'snapshots',
    sizes: sizesTo(6000),
    prepare(size, folder) {
      const snapshots = Array.from({ length: size }, (_, i) => ({
        id: String(i),
        name: `snapshot-${i}`,
        state: Buffer.alloc(0),
      }));
      const { image } = makeQcow2({ clusterBits: 9, diskSize: 512, snapshots });
      const path = fileOf(folder, [image]);
      return async () => void (await inspect(path, { snapshot: String(size - 1) }).catch(refused));
    },
  },
  ...(['hole', 'zero', 'data'] as const).map(
    (kind): Case => ({
      name: `ram: a VM state in qcow2 clusters of 512 bytes, behind it ${kind}`,
      unit: 'clusters',
      sizes: sizesTo(kind === 'data' ? 80_000 : 160_000),
      prepare(size, folder) {
        const guest = smallGuest();
        const state = Buffer.concat([guest, Buffer.alloc(size * 512)]);
        const first = Math.ceil(guest.length / 512);
        const { image } = makeQcow2({
          clusterBits: 9,
          diskSize: 512,
          snapshots: [
            { id: '1', name: 'one', state, plan: (cluster) => (cluster < first ? 'data' : kind) },
          ],
        });
        const path = fileOf(folder, [image]);
        return async () => void (await extractRam(path, `${folder}/ram`, { force: true }));
      },
    }),
  ),
];

/** What has no VM state in it is refused, when all has been looked at. */
function refused(error: unknown): undefined {
  if ((error as { code?: string }).code === undefined) throw error;
  return undefined;
}

const libvirtCases: readonly Case[] = [
  {
    name: 'info: an XML of libvirt',
    unit: 'bytes',
    sizes: sizesTo(12_000_000),
    prepare(size, folder) {
      const xml = `<domain>${'<os><type machine="x"/></os>'.repeat(Math.floor(size / 28))}</domain>`;
      const path = fileOf(folder, [makeLibvirt({ xml, stream: smallGuest() })]);
      return async () => {
        // It takes too little to be told once.
        for (let i = 0; i < 5; i++) await inspect(path, { xml: true });
        return undefined;
      };
    },
  },
];

const fdCases: readonly Case[] = [
  {
    name: 'SoftwareHtab: one entry a write, descending, then read in the smallest pieces',
    unit: 'entries',
    sizes: sizesTo(30_000),
    prepare(size) {
      const entries = run(1, V(0x1000), R(5));
      return async () => {
        const htab = new SoftwareHtab();
        htab.allocate(24);
        htab.setMemory([{ base: 0n, size: 64n << 20n }]);
        const writer = htab.descriptor({ write: true });
        for (let i = size; i > 0; i--) await writer.write(block(3 * i, entries, 0, true));
        const reader = htab.descriptor();
        for (let read = -1; read !== 0; ) read = (await reader.read(25)).length;
        return undefined;
      };
    },
  },
  {
    name: 'SoftwareHtab: writes that empty 65535 slots',
    unit: 'writes',
    sizes: sizesTo(20_000),
    prepare(size) {
      const some = run(20, V(0x1000), R(5));
      return async () => {
        const htab = new SoftwareHtab();
        htab.allocate(24);
        htab.setMemory([{ base: 0n, size: 64n << 20n }]);
        const writer = new HtabFd(htab.descriptor({ write: true }), true);
        const blocks = Array.from({ length: size }, (_, i) =>
          block((i * 37) % 900, some, 65535, true),
        );
        await writer.descriptor.writeBlocks(Buffer.concat(blocks));
        await writer.close();
        return undefined;
      };
    },
  },
  {
    name: 'SoftwareHtab: a pass after each change',
    unit: 'passes',
    sizes: sizesTo(20_000),
    prepare(size) {
      const entries = run(1, V(0x1000), R(5));
      return async () => {
        const htab = new SoftwareHtab();
        htab.allocate(20);
        htab.setMemory([{ base: 0n, size: 64n << 20n }]);
        const writer = htab.descriptor({ write: true });
        const reader = htab.descriptor();
        while ((await reader.read(1 << 20)).length > 0);
        for (let i = 0; i < size; i++) {
          await writer.write(block((i * 97) % 60_000, entries, 0, true));
          while ((await reader.read(4096)).length > 0);
        }
        return undefined;
      };
    },
  },
];

export const otherCases: readonly Case[] = [
  ...cliCases,
  ...qcow2Cases,
  ...libvirtCases,
  ...fdCases,
];
