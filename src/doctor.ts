import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { endianness, release } from 'node:os';
import { delimiter, join } from 'node:path';
import { loadAddon } from './addon/load.js';
import { EXTERNAL } from './container/external.js';
import { type HtabFdSupport, type KvmReport, probeHtabFd, probeKvm } from './fd/support.js';

/** A program that the package starts for some inputs. */
export interface ProgramReport {
  readonly program: string;
  /** Where it was found in PATH; undefined when it was not. */
  readonly path: string | undefined;
  /** The Debian package that has it. */
  readonly package: string;
}

/** What this machine offers. */
export interface DoctorReport {
  readonly node: string;
  readonly platform: string;
  readonly arch: string;
  readonly endianness: 'little' | 'big';
  /** Release of the system, as of uname(2). */
  readonly kernel: string;
  /** The compiled part of the package: its file, if there is one, and why it was not loaded. */
  readonly addon: { readonly path: string | undefined; readonly reason: string | undefined };
  /** /dev/kvm. */
  readonly kvm: KvmReport;
  readonly htabFd: HtabFdSupport;
  /** Programs that decompress and compress images, as libvirt uses them. */
  readonly programs: readonly ProgramReport[];
}

/** Looks at what this machine offers; opens /dev/kvm for a moment, and changes nothing. */
export async function doctor(): Promise<DoctorReport> {
  const { path, failure } = loadAddon();
  const programs = Object.values(EXTERNAL).map(async (external) => ({
    program: external.program,
    path: await find(external.program),
    package: external.package,
  }));
  return {
    node: process.version,
    platform: process.platform,
    arch: process.arch,
    endianness: endianness() === 'LE' ? 'little' : 'big',
    kernel: release(),
    addon: { path, reason: failure === undefined ? undefined : String(failure) },
    kvm: probeKvm(),
    htabFd: probeHtabFd(),
    programs: await Promise.all(programs),
  };
}

async function find(program: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '/usr/bin:/bin').split(delimiter)) {
    const path = join(folder, program);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (folder !== '' && found) return path;
  }
  return undefined;
}
