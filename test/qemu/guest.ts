import { spawnSync } from 'node:child_process';
import { createReadStream, createWriteStream, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createGunzip } from 'node:zlib';
import type { Command } from '../../fixtures/capture/programs.js';
import { Qemu } from '../../fixtures/capture/qemu.js';
import { type Fixture, fixtureUrl } from '../helpers/fixtures.js';

/** Far more than it takes; a machine can be busy. */
const LOAD_SECONDS = 120;
const NEEDS_GUEST_FILES = ['-kernel', '-initrd', '-append'];

/** Whether the program can be run; one that cannot is said aloud once. */
export function installed(program: string, what: string): boolean {
  const found = spawnSync(program, ['--version']).error === undefined;
  if (!found) console.warn(`\n!!! ${program} IS NOT INSTALLED: ${what} IS NOT TESTED !!!\n`);
  return found;
}

/** The QEMU arguments of a fixture; what is in its memory comes with it, so no kernel is needed. */
export function fixtureArguments({ file, commandLine }: Fixture): string[] {
  if (!Array.isArray(commandLine)) throw new Error(`${file} has no command line`);
  const args: string[] = commandLine.slice(1);
  for (const name of NEEDS_GUEST_FILES) {
    const at = args.indexOf(name);
    if (at >= 0) args.splice(at, 2);
  }
  return args;
}

/** The capabilities that were on while it was saved, and have to be on while it is loaded. */
function capabilitiesOf({ how }: Fixture): string[] {
  const steps = Array.isArray(how) ? how : [];
  const set = steps.find((step) => String(step).startsWith('migrate-set-capabilities '));
  if (set === undefined) return [];
  const { capabilities } = JSON.parse(set.slice(set.indexOf('{')));
  return capabilities.map(({ capability }: { capability: string }) => capability);
}

/**
 * Gives a stream to a QEMU of this machine type, set up as the fixture says. Undefined when it is
 * loaded; otherwise what QEMU says.
 */
export async function refusal(
  fixture: Fixture,
  machine: string,
  path: string,
): Promise<string | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'spapr-htab-oracle-'));
  const args = fixtureArguments(fixture);
  const at = args.indexOf('-machine') + 1;
  const old = /^pseries-2\./.test(machine) && !args[at]?.includes('cap-htm');
  args[at] = (args[at] ?? '').replace(/^pseries-[\d.]+/, machine) + (old ? ',cap-htm=off' : '');
  let qemu: Qemu | undefined;
  try {
    qemu = await Qemu.start(folder, [...args, '-S', '-incoming', 'defer']);
    const capabilities = capabilitiesOf(fixture).map((capability) => ({ capability, state: true }));
    await qemu.qmp.execute('migrate-set-capabilities', { capabilities });
    await qemu.qmp.execute('migrate-incoming', { uri: `exec:cat '${path}'` });
    // A QEMU that refuses ends itself, and the next query fails.
    await qemu.migrated(60);
    return undefined;
  } catch (error) {
    await qemu?.ended(10);
    return qemu?.errors || String(error);
  } finally {
    await qemu?.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What to load and how. */
export interface Incoming {
  /** Without `-incoming`. Files are named from a new folder. */
  readonly args: readonly string[];
  /** Of `migrate-incoming`. */
  readonly uri: string;
  readonly capabilities?: readonly string[];
  /** Default: the system's QEMU. */
  readonly program?: Command;
}

/** A QEMU that has loaded a fixture, or another stream, and is paused. */
export class LoadedGuest implements AsyncDisposable {
  readonly folder: string;
  readonly #qemu: Qemu;
  readonly #capabilities: readonly string[];

  private constructor(folder: string, qemu: Qemu, capabilities: readonly string[]) {
    this.folder = folder;
    this.#qemu = qemu;
    this.#capabilities = capabilities;
  }

  /**
   * Loads a stream as a destination does; the fixture stays compressed. Undefined when this QEMU has
   * dropped a capability that the stream needs.
   */
  static incoming(fixture: Fixture): Promise<LoadedGuest | undefined> {
    return LoadedGuest.load({
      args: fixtureArguments(fixture),
      uri: `exec:gzip -dc '${fileURLToPath(fixtureUrl(fixture.file))}'`,
      capabilities: capabilitiesOf(fixture),
    });
  }

  /** The same for any stream. */
  static async load(what: Incoming): Promise<LoadedGuest | undefined> {
    const { args, uri, capabilities = [], program } = what;
    const waiting = [...args, '-incoming', 'defer'];
    const guest = await LoadedGuest.#start(waiting, { capabilities, program });
    try {
      const known = await guest.#qemu.qmp.execute('query-migrate-capabilities');
      const names = (known as unknown as { capability: string }[]).map((one) => one.capability);
      if (!capabilities.every((name) => names.includes(name))) {
        await guest[Symbol.asyncDispose]();
        return undefined;
      }
      await guest.#capable(capabilities, true);
      await guest.#qemu.qmp.execute('migrate-incoming', { uri });
      await guest.#qemu.loaded(LOAD_SECONDS);
      return guest;
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Loads a snapshot of an image, a copy of which becomes the disk. */
  static async snapshot(fixture: Fixture, name: string): Promise<LoadedGuest> {
    const guest = await LoadedGuest.#start([...fixtureArguments(fixture), '-loadvm', name], {
      capabilities: capabilitiesOf(fixture),
      disk: fixture,
    });
    await guest.#qemu.loaded(LOAD_SECONDS);
    return guest;
  }

  static async #start(
    args: readonly string[],
    more: {
      capabilities: readonly string[];
      disk?: Fixture;
      program?: Command | undefined;
    },
  ): Promise<LoadedGuest> {
    const folder = mkdtempSync(join(tmpdir(), 'spapr-htab-oracle-'));
    try {
      if (more.disk !== undefined) await unpack(more.disk, join(folder, 'disk.qcow2'));
      const qemu = await Qemu.start(folder, [...args, '-S'], more.program);
      return new LoadedGuest(folder, qemu, more.capabilities);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** What QEMU says is in the guest's memory. */
  async memory(): Promise<string> {
    const args = { val: 0, size: 256 * 2 ** 20, filename: 'memory' };
    await this.#qemu.qmp.execute('pmemsave', args);
    return join(this.folder, 'memory');
  }

  /** Writes the guest out again, as a plain stream. */
  async again(): Promise<string> {
    await this.#capable(
      this.#capabilities.filter((name) => name !== 'x-ignore-shared'),
      false,
    );
    const uri = 'exec:cat > again.part && mv again.part again';
    await this.#qemu.qmp.execute('migrate', { uri });
    await this.#qemu.migrated(LOAD_SECONDS);
    const path = join(this.folder, 'again');
    for (let i = 0; i < 100 && !existsSync(path); i++) await sleep(100);
    return path;
  }

  /** Lets the guest go on, until its console shows a text; what it has said till then. */
  async goOn(text: string, seconds: number): Promise<string> {
    await this.#qemu.qmp.execute('cont');
    await this.#qemu.see(text, seconds);
    return this.#qemu.console();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#qemu.end();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #capable(names: readonly string[], state: boolean): Promise<void> {
    const capabilities = names.map((capability) => ({ capability, state }));
    await this.#qemu.qmp.execute('migrate-set-capabilities', { capabilities });
  }
}

/** The content of a fixture as a file. */
export async function unpack(fixture: Fixture, path: string): Promise<string> {
  const packed = createReadStream(fixtureUrl(fixture.file));
  await pipeline(packed, createGunzip(), createWriteStream(path));
  return path;
}
