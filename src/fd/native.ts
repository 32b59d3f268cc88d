import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';

interface Probe {
  readonly supported: boolean;
  readonly ioctl: number;
  readonly errno: number;
  readonly apiVersion: number;
  readonly extension: number;
}

interface Addon {
  probe(): Probe;
}

/** Whether this host can give out the HTAB fd of a guest, and if not, what is missing. */
export interface HtabFdSupport {
  readonly available: boolean;
  /** What is not there, for programs. */
  readonly missing:
    | 'addon'
    | 'linux'
    | 'ppc64'
    | 'kvm'
    | 'kvm-permission'
    | 'kvm-api'
    | 'capability'
    | undefined;
  /** The same in words. */
  readonly reason: string;
  /** Number of KVM_PPC_GET_HTAB_FD on ppc64, which is not the one of generic headers. */
  readonly ioctl: number;
}

/** KVM_PPC_GET_HTAB_FD as ppc64 encodes it (arch/powerpc/include/uapi/asm/ioctl.h). */
export const KVM_PPC_GET_HTAB_FD = 0x8020aeaa;
/** The only version of the KVM API since Linux 2.6.22 (KVM_API_VERSION). */
const KVM_API_VERSION = 12;

let addon: Addon | undefined;
let loadFailure: unknown;

/** The compiled part, or undefined: the package works without it. */
function loadAddon(): Addon | undefined {
  if (addon === undefined && loadFailure === undefined) {
    try {
      const load = createRequire(import.meta.url)('node-gyp-build') as (folder: string) => Addon;
      addon = load(fileURLToPath(new URL('../../native', import.meta.url)));
    } catch (error) {
      loadFailure = error;
    }
  }
  return addon;
}

/**
 * Asks this host whether it can give out the HTAB fd (capability KVM_CAP_PPC_HTAB_FD, 84). Opens
 * /dev/kvm for a moment and changes nothing.
 */
export function probeHtabFd(): HtabFdSupport {
  const lacks = (missing: HtabFdSupport['missing'], reason: string): HtabFdSupport => ({
    available: missing === undefined,
    missing,
    reason,
    ioctl: KVM_PPC_GET_HTAB_FD,
  });
  if (process.platform !== 'linux') return lacks('linux', 'KVM is a part of Linux');
  if (process.arch !== 'ppc64') {
    return lacks('ppc64', `this is a ${process.arch} host; only ppc64 guests have an HPT`);
  }
  const native = loadAddon();
  if (native === undefined) {
    return lacks('addon', `the compiled part of spapr-htab is not there: ${String(loadFailure)}`);
  }
  const { errno, apiVersion, extension } = native.probe();
  if (errno !== 0) {
    const name = getSystemErrorName(-errno);
    return name === 'EACCES' || name === 'EPERM'
      ? lacks('kvm-permission', `/dev/kvm may not be opened by this user (${name})`)
      : lacks('kvm', `/dev/kvm cannot be opened (${name}); is kvm-hv loaded?`);
  }
  if (apiVersion !== KVM_API_VERSION) {
    return lacks('kvm-api', `KVM speaks API version ${apiVersion}, not ${KVM_API_VERSION}`);
  }
  if (extension <= 0) {
    return lacks('capability', 'KVM has no HTAB fd here (KVM_CAP_PPC_HTAB_FD); kvm-hv has it');
  }
  return lacks(undefined, 'the HTAB fd is there');
}
