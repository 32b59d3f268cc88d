import { readExactly } from '../bytes/read.js';
import type { ByteSource } from '../bytes/source.js';
import { UnsupportedError, UsageError } from '../errors.js';
import type { Limits } from '../limits.js';
import { encodeMachineName, lacksConfiguration } from '../qevm/configuration.js';
import type { Configuration } from '../qevm/elements.js';
import { resizeMachineName } from '../qevm/vmdesc-edit.js';
import type { Patch } from './patch.js';

/** @throws UsageError `E_USAGE` for a name that is none; UnsupportedError `E_UNSUPPORTED` */
export function checkMachine(machine: string): void {
  if (!/^[\x21-\x7e]{1,255}$/.test(machine)) {
    throw new UsageError('E_USAGE', 'this is no name of a machine type', {
      expected: 'a name such as pseries-7.2',
      actual: JSON.stringify(machine),
    });
  }
  if (lacksConfiguration(machine)) {
    throw new UnsupportedError(
      'E_UNSUPPORTED',
      `a stream for ${machine} has neither configuration element nor footers, and cannot get that way`,
    );
  }
}

/**
 * Patches that put another machine type into a stream: into the configuration element, and, when
 * its length changes, that length into the description at the end (QEMU 9.0 and later describe the
 * configuration there too; QEMU does not read it, its scripts do).
 * @param machine as {@link checkMachine} takes it
 * @throws UnsupportedError `E_UNSUPPORTED` for a stream without configuration element
 */
export function machinePatches(
  source: ByteSource,
  machine: string,
  configuration: Configuration | undefined,
  vmdesc: { readonly offset: number; readonly length: number } | undefined,
  limits: Limits,
): Patch[] {
  if (configuration === undefined) {
    throw new UnsupportedError(
      'E_UNSUPPORTED',
      'the stream does not record its machine type (pseries-2.3 or older), so it cannot be changed',
    );
  }
  if (machine === configuration.machine) return [];
  const before = configuration.machine.length;
  const from = configuration.offset + 1;
  const name: Patch = {
    from,
    to: from + 4 + before,
    write: (sink) => sink.append(encodeMachineName(machine)),
  };
  if (vmdesc === undefined || before === machine.length) return [name];
  // Nobody would look for the length in so long a text.
  if (vmdesc.length > limits.vmdescBytes) return [name];
  const lengthAt = vmdesc.offset + 1;
  const description: Patch = {
    from: lengthAt,
    to: lengthAt + 4 + vmdesc.length,
    write: async (sink) => {
      const json = await readExactly(source, lengthAt + 4, vmdesc.length, 'the vmdescription');
      const edited = resizeMachineName(json, machine.length);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(edited.length);
      await sink.append(length);
      await sink.append(edited);
    },
  };
  return [name, description];
}
