import { readFileSync, statSync } from 'node:fs';
import type { Case, Prepared, Size, Workshop, Yardstick } from '../case.js';
import { type HptShape, writeKernel } from '../inputs/hpt.js';
import { changes, type GuestShape, writeMappedStream, writeStream } from '../inputs/stream.js';
import { ours } from '../programs.js';
import { requireSame } from '../same-file.js';

const GIB = 2 ** 30;

/** What QEMU gives a guest of so much RAM is a table of a 128th of it; an eighth is used here. */
export function guestOf(ram: number): GuestShape {
  const order = Math.max(22, Math.ceil(Math.log2(ram)) - 7);
  return { ram, hpt: { order, entries: 2 ** (order - 4) / 8, runs: 'single' } };
}

/** mapped-ram: the same table whatever the RAM, so that only the RAM differs. */
export function mappedGuestOf(ram: number): GuestShape {
  const hpt: HptShape = { order: 25, entries: 2 ** 18, runs: 'single' };
  return { ram, hpt };
}

export interface Snapshot {
  readonly path: string;
  /** Its HPT as the kernel's blocks. */
  readonly kernel: string;
  readonly guest: GuestShape;
}

function label(ram: number): string {
  return ram >= GIB ? `${ram / GIB} GiB RAM` : `${ram / 2 ** 20} MiB RAM`;
}

/** The HPT that must come out of a guest's snapshot, as the kernel's blocks. */
export function expectedKernel({ inputs }: Workshop, guest: GuestShape, name: string): string {
  const shapes = [guest.hpt, changes(guest)];
  return inputs.make(`${name}.htab`, guest.hpt.entries * 26, (out) => writeKernel(out, shapes));
}

export function rawSnapshot(shop: Workshop, ram: number): Snapshot {
  const guest = guestOf(ram);
  const name = `raw-${ram / 2 ** 20}`;
  const write = (out: Parameters<typeof writeStream>[0]): void => writeStream(out, guest);
  const path = shop.inputs.make(`${name}.mig`, ram * 0.52, write);
  return { path, kernel: expectedKernel(shop, guest, name), guest };
}

function mappedSnapshot(shop: Workshop, ram: number): Snapshot {
  const guest = mappedGuestOf(ram);
  const name = `mapped-${ram / 2 ** 20}`;
  const write = (out: Parameters<typeof writeStream>[0]): void => writeMappedStream(out, guest);
  const path = shop.inputs.make(`${name}.mig`, ram * 0.52, write);
  return { path, kernel: expectedKernel(shop, guest, name), guest };
}

/** Ours, and a check of what it writes, for a snapshot of any kind. */
export function convertOf(shop: Workshop, { path, kernel }: Snapshot): Prepared {
  const result = shop.output('ours.htab');
  return {
    ours: { command: ours('convert', path, '-o', result), output: result },
    against: [],
    check: () => requireSame(result, kernel),
  };
}

function infoOf(shop: Workshop, { path, guest }: Snapshot): Prepared {
  const stdout = shop.output('info.json');
  return {
    ours: { command: ours('info', path, '--json'), stdout, output: stdout },
    against: [],
    check: () => requireInfo(JSON.parse(readFileSync(stdout, 'utf8')), guest),
  };
}

/** @throws Error unless `info` found the guest that was made */
function requireInfo(info: { stream?: StreamReport; hpt?: HptReport }, guest: GuestShape): void {
  const [block] = info.stream?.ram ?? [];
  const { hpt } = info;
  const carried = guest.hpt.entries + changes(guest).entries;
  if (block?.usedLength !== guest.ram || hpt?.order !== guest.hpt.order) {
    throw new Error('info tells of another guest');
  }
  if (hpt.carried !== carried) throw new Error(`info counts ${hpt.carried} entries of ${carried}`);
}

interface StreamReport {
  readonly ram: readonly { readonly usedLength: number }[];
}

interface HptReport {
  readonly order: number;
  readonly carried: number;
}

/** The C program that walks the stream; what it writes is checked too. */
function walk(shop: Workshop, { path, kernel }: Snapshot): [Yardstick, () => void] {
  const theirs = shop.output('theirs.htab');
  const command = [shop.references.walk, path, theirs];
  return [
    { name: 'C', run: { command, output: theirs, sync: true } },
    () => requireSame(theirs, kernel),
  ];
}

export const cat = (path: string, limit?: number): Yardstick => ({
  name: 'cat',
  run: { command: ['cat', path] },
  limit,
});

type Make = (shop: Workshop, ram: number) => Snapshot;
type Job = (shop: Workshop, snapshot: Snapshot) => Prepared;

function sizes(rams: readonly number[], make: Make, job: Job, limit: number | undefined): Size[] {
  return rams.map((ram) => ({
    label: label(ram),
    amount: ram,
    outputBytes: ram / 256,
    prepare: (shop) => {
      const snapshot = make(shop, ram);
      const prepared = job(shop, snapshot);
      const [program, checkTheirs] = walk(shop, snapshot);
      return {
        ...prepared,
        // Reading all of a file is no measure of what passes over most of it.
        against: limit === undefined ? [program] : [cat(snapshot.path, limit), program],
        check: async () => {
          await prepared.check();
          checkTheirs();
        },
      };
    },
  }));
}

/** `rewrite` without an edit: the walk, and a copy of everything. */
function rewriteSizes(rams: readonly number[]): Size[] {
  return rams.map((ram) => ({
    label: label(ram),
    amount: ram,
    outputBytes: 2.1 * 0.52 * ram,
    prepare: (shop) => {
      const { path } = rawSnapshot(shop, ram);
      const [result, copied] = [shop.output('ours.mig'), shop.output('copied')];
      const cp = { command: ['cp', path, copied], output: copied, sync: true };
      return {
        ours: { command: ours('rewrite', path, '-o', result), output: result },
        against: [{ name: 'cp', run: cp, limit: 1.15 }],
        check: () => {
          requireSame(result, path);
          if (statSync(copied).size !== statSync(path).size) throw new Error('cp copied less');
        },
      };
    },
  }));
}

/** Whole snapshots, by bytes of RAM. */
export function snapshotCases(raw: readonly number[], mapped: readonly number[]): Case[] {
  const growth = { growth: 1.1 };
  return [
    { name: 'convert, raw', group: 'raw', sizes: sizes(raw, rawSnapshot, convertOf, 1) },
    { name: 'info, raw', group: 'raw', sizes: sizes(raw, rawSnapshot, infoOf, 1) },
    { name: 'rewrite, raw', group: 'raw', sizes: rewriteSizes(raw) },
    {
      name: 'convert, mapped-ram',
      group: 'mapped',
      sizes: sizes(mapped, mappedSnapshot, convertOf, undefined),
      ...growth,
    },
    {
      name: 'info, mapped-ram',
      group: 'mapped',
      sizes: sizes(mapped, mappedSnapshot, infoOf, undefined),
      ...growth,
    },
  ];
}
