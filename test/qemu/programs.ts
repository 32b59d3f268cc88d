import { execFileSync } from 'node:child_process';
import { findPrograms, type Programs } from '../../fixtures/capture/programs.js';
import { installed } from './guest.js';

/**
 * The QEMUs that the tests run: the system's, and that of each Debian root named in the environment
 * variable SPAPR_HTAB_QEMU_ROOTS (paths with `:` between). `debootstrap` and
 * `apt-get install qemu-system-ppc qemu-utils` in it make such a root; nothing in it needs to be
 * mounted. None without the system's, which is said aloud.
 */
export async function qemuPrograms(what: string): Promise<Programs[]> {
  // Both are looked for, so that both are said to be missing.
  const all = ['qemu-system-ppc64', 'qemu-img'].map((program) => installed(program, what));
  if (all.includes(false)) return [];
  const roots = process.env.SPAPR_HTAB_QEMU_ROOTS ?? '';
  return findPrograms(roots.split(':').filter((root) => root !== ''));
}

/** The versioned machine types `pseries-…` that this QEMU has, the newest first. */
export function machineTypes({ qemu: { file, args } }: Programs): string[] {
  const said = execFileSync(file, [...args, '-machine', 'help'], { encoding: 'utf8' });
  const versions = [...said.matchAll(/^pseries-(\d+)\.(\d+)\s/gm)].map(([, major, minor]) => ({
    major: Number(major),
    minor: Number(minor),
  }));
  versions.sort((a, b) => b.major - a.major || b.minor - a.minor);
  return versions.map(({ major, minor }) => `pseries-${major}.${minor}`);
}
