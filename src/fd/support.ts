import { errnoName } from '../addon/errno.js';
import { loadAddon } from '../addon/load.js';

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
    return lacks('ppc64', `this host is ${process.arch}; only ppc64 guests have an HPT`);
  }
  const { addon, failure } = loadAddon();
  if (addon === undefined) {
    return lacks('addon', `the compiled part of spapr-htab is not there: ${String(failure)}`);
  }
  const kvm = probeKvm();
  if (kvm.failure !== undefined) {
    return kvm.failure === 'EACCES' || kvm.failure === 'EPERM'
      ? lacks('kvm-permission', `/dev/kvm may not be opened by this user (${kvm.failure})`)
      : lacks('kvm', `/dev/kvm cannot be opened (${kvm.failure}); is kvm-hv loaded?`);
  }
  if (kvm.apiVersion !== KVM_API_VERSION) {
    return lacks('kvm-api', `KVM speaks API version ${kvm.apiVersion}, not ${KVM_API_VERSION}`);
  }
  if ((kvm.htabFd ?? 0) <= 0) {
    return lacks('capability', 'KVM has no HTAB fd here (KVM_CAP_PPC_HTAB_FD); kvm-hv has it');
  }
  return lacks(undefined, 'the HTAB fd is there');
}

/** What /dev/kvm of this host says, whatever its CPU. */
export interface KvmReport {
  /** Why it could not be asked: the addon is missing, or the name of an errno. Undefined when it could. */
  readonly failure: string | undefined;
  /** KVM_GET_API_VERSION. */
  readonly apiVersion: number | undefined;
  /** KVM_CHECK_EXTENSION of KVM_CAP_PPC_HTAB_FD: above 0 where there is an HTAB fd. */
  readonly htabFd: number | undefined;
}

/** Asks /dev/kvm; opens it for a moment and changes nothing. */
export function probeKvm(): KvmReport {
  const nothing = (failure: string): KvmReport => ({
    failure,
    apiVersion: undefined,
    htabFd: undefined,
  });
  const { addon } = loadAddon();
  if (addon === undefined) return nothing('the addon is not loaded');
  const probe = addon.probe();
  if (!probe.supported) return nothing('KVM is a part of Linux');
  if (probe.errno !== 0) return nothing(errnoName(probe.errno));
  return { failure: undefined, apiVersion: probe.apiVersion, htabFd: probe.extension };
}
