import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CAPABILITIES } from '../../fixtures/capture/capture.js';
import { prepareLinux } from '../../fixtures/capture/guest.js';
import type { Programs } from '../../fixtures/capture/programs.js';
import { COMMON_ARGUMENTS, Qemu } from '../../fixtures/capture/qemu.js';
import { REARM_BASE, REARM_TICKS } from '../../fixtures/capture/rearm.js';
import { MEMORY } from '../../fixtures/capture/recipes.js';
import { counting } from './counting.js';

const run = promisify(execFile);

/** A guest that counts on its console, and says with each number a checksum of its memory. */
export interface CountingGuest {
  readonly args: readonly string[];
  readonly word: string;
  /** How it writes its numbers. */
  readonly radix: 10 | 16;
  readonly digits: number;
  /** Stop it only where rearm.ts has just set its timer. */
  readonly rearms: boolean;
}

/** What a guest has said. */
export interface Beat {
  readonly number: number;
  readonly sum: string;
}

/** The complete lines with a number. */
export function beats({ word, radix }: CountingGuest, console: string): Beat[] {
  const lines = console.matchAll(
    new RegExp(`^${word} ([0-9a-f]+) sum ([0-9a-f]{16,32})$(?=\n)`, 'gm'),
  );
  return [...lines].map(([, number = '', sum = '']) => ({
    number: Number.parseInt(number, radix),
    sum,
  }));
}

/** How a line with this number begins. */
export function beatText({ word, radix, digits }: CountingGuest, number: number): string {
  return `${word} ${number.toString(radix).padStart(digits, '0')} sum `;
}

/** The program of counting.ts, put into the folder. */
export async function countingGuest(folder: string): Promise<CountingGuest> {
  const kernel = join(folder, 'counting.elf');
  await writeFile(kernel, counting());
  return { args: ['-kernel', kernel], word: 'tick', radix: 16, digits: 16, rearms: false };
}

/** Linux, kept from run to run, with 1 MiB held in two ways; processes come and go all the time. */
export async function linuxGuest(cache: string): Promise<CountingGuest> {
  const { kernel, initrd } = await prepareLinux(cache);
  const append = 'console=hvc0 quiet load=1 rearm=1 keep=512';
  return {
    args: ['-kernel', join(cache, kernel), '-initrd', join(cache, initrd), '-append', append],
    word: 'beat',
    radix: 10,
    digits: 1,
    rearms: true,
  };
}

/** A state of a guest, in one file. */
export interface SavedState {
  readonly path: string;
  /** All that the guest had said by then. */
  readonly console: string;
}

/** One guest, saved in several ways. */
export interface SavedGuest {
  readonly guest: CountingGuest;
  readonly machine: string;
  /** Stopped, then saved. */
  readonly paused: SavedState;
  /** Saved while it ran, so that the HPT takes several passes. */
  readonly live: SavedState | undefined;
  /** The same as `paused`, as snapshot `one` of a qcow2 image. */
  readonly image: SavedState;
  /** Stopped, then saved with the capability mapped-ram. */
  readonly mapped: SavedState | undefined;
}

const DISK = 'disk.qcow2';
const DISK_SIZE = 64 * 2 ** 20;

/**
 * The arguments without those of the disk, which every guest has: savevm wants one. Where a stream is
 * loaded it can be any of the same size.
 */
function argumentsOf(guest: CountingGuest, machine: string): string[] {
  return [
    ...['-machine', `${machine},${CAPABILITIES}`, '-cpu', 'POWER8', '-m', `${MEMORY}M`],
    ...COMMON_ARGUMENTS,
    ...['-device', 'virtio-blk-pci,drive=n0'],
    ...guest.args,
  ];
}

/** The arguments of a QEMU into which a stream of the guest is loaded. */
export function destinationArguments(guest: CountingGuest, machine: string): string[] {
  return [
    '-blockdev',
    `driver=null-co,node-name=n0,size=${DISK_SIZE}`,
    ...argumentsOf(guest, machine),
  ];
}

/** Starts the guest once and saves it in each way; `mapped` where the QEMU can, and `live` for a guest of little memory. */
export async function saveGuest(
  guest: CountingGuest,
  { qemu: program, img }: Programs,
  how: { folder: string; machine: string; mapped: boolean; live: boolean },
): Promise<SavedGuest> {
  const { folder, machine } = how;
  const create = ['create', '-q', '-f', 'qcow2', DISK, String(DISK_SIZE)];
  await run(img.file, [...img.args, ...create], { cwd: folder });
  const disk = `driver=qcow2,node-name=n0,file.driver=file,file.filename=${DISK}`;
  const args = ['-blockdev', disk, ...argumentsOf(guest, machine)];
  const qemu = await Qemu.start(folder, args, program);
  try {
    const said = async (name: string): Promise<SavedState> => ({
      path: join(folder, name),
      console: await qemu.console(),
    });
    await qemu.see(beatText(guest, 3), 300);
    await stop(qemu, guest);
    const complaint = await monitor(qemu, 'savevm one');
    if (complaint !== '') throw new Error(`savevm: ${complaint}`);
    const image = await said(DISK);
    const paused = await said(await migrate(qemu, folder, 'paused.mig'));
    let withMapped: SavedState | undefined;
    if (how.mapped) {
      await advance(qemu, guest, 6);
      await stop(qemu, guest);
      withMapped = await said(await migrateMapped(qemu, folder));
    }
    let live: SavedState | undefined;
    if (how.live) {
      await advance(qemu, guest, 9);
      live = await said(await migrateLive(qemu, guest, folder));
    }
    return { guest, machine, image, paused, live, mapped: withMapped };
  } finally {
    await qemu.end();
  }
}

/** Stops the guest where it is wanted: inside rearm.ts, and by the decrementer its timer is next. */
async function stop(qemu: Qemu, { rearms }: CountingGuest): Promise<void> {
  for (let i = 0; i < 10_000; i++) {
    await qemu.qmp.execute('stop');
    if (!rearms) return;
    const registers = await monitor(qemu, 'info registers');
    const [, nip = ''] = /^NIP ([0-9a-f]{16})/m.exec(registers) ?? [];
    const left = Number(/\bDECR (\d+)/.exec(registers)?.[1]);
    const inside = BigInt(`0x${nip}`) >> 16n === REARM_BASE >> 16n;
    if (inside && left < REARM_TICKS && left > REARM_TICKS / 2) return;
    await qemu.qmp.execute('cont');
    await sleep(1 + (i % 7));
  }
  throw new Error('the guest was never seen where it is to be stopped');
}

async function monitor(qemu: Qemu, line: string): Promise<string> {
  return String(await qemu.qmp.execute('human-monitor-command', { 'command-line': line }));
}

/** QEMU does not save a guest twice that has not run in between. */
async function advance(qemu: Qemu, guest: CountingGuest, number: number): Promise<void> {
  await qemu.qmp.execute('cont');
  await qemu.see(beatText(guest, number), 300);
}

async function migrate(qemu: Qemu, folder: string, name: string): Promise<string> {
  const path = await startMigration(qemu, folder, name);
  await whole(qemu, path);
  return name;
}

/** Renamed by the shell when cat has ended, so that a file of that name is a whole one. */
async function startMigration(qemu: Qemu, folder: string, name: string): Promise<string> {
  const uri = `exec:cat > ${name}.part && mv ${name}.part ${name}`;
  await qemu.qmp.execute('migrate', { uri });
  return join(folder, name);
}

async function whole(qemu: Qemu, path: string): Promise<void> {
  await qemu.migrated(300);
  for (let i = 0; !existsSync(path); i++) {
    if (i > 600) throw new Error('the migration has completed but its file is missing');
    await sleep(50);
  }
}

/**
 * The memory passes at a high rate; then the two pages that the guest dirties all the time keep the
 * migration going, and each look for them leaves the HPT its turn (recipes.ts has more at `live`).
 */
async function migrateLive(qemu: Qemu, guest: CountingGuest, folder: string): Promise<string> {
  const name = 'live.mig';
  await qemu.qmp.execute('migrate-set-parameters', {
    'max-bandwidth': 2_000_000,
    'downtime-limit': 1,
  });
  const path = await startMigration(qemu, folder, name);
  await severalPasses(qemu, guest);
  await qemu.qmp.execute('migrate-set-parameters', {
    'max-bandwidth': 1_000_000_000,
    'downtime-limit': 2000,
  });
  await whole(qemu, path);
  return name;
}

/**
 * Waits until the memory has been gone through once and the guest has then said some more, or until
 * the migration is over.
 */
async function severalPasses(qemu: Qemu, guest: CountingGuest): Promise<void> {
  let first: number | undefined;
  for (let i = 0; i < 4800; i++) {
    const { status, ram } = (await qemu.qmp.execute('query-migrate')) as {
      status?: string;
      ram?: Record<string, number>;
    };
    if (status === 'completed') return;
    const number = beats(guest, await qemu.console()).at(-1)?.number ?? 0;
    if (first === undefined && (ram?.['dirty-sync-count'] ?? 0) > 1) {
      first = number;
      await qemu.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 200_000 });
    }
    if (first !== undefined && number > first + 8) return;
    await sleep(25);
  }
  throw new Error('the live migration has not got far in two minutes');
}

async function migrateMapped(qemu: Qemu, folder: string): Promise<string> {
  const name = 'mapped.mig';
  const capability = async (state: boolean): Promise<void> => {
    const capabilities = [{ capability: 'mapped-ram', state }];
    await qemu.qmp.execute('migrate-set-capabilities', { capabilities });
  };
  await capability(true);
  await qemu.qmp.execute('migrate', { uri: `file:${name}.part` });
  await qemu.migrated(300);
  await capability(false);
  await rename(join(folder, `${name}.part`), join(folder, name));
  return name;
}
