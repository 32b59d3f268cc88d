import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** What the host's KVM says; see native/src/probe.h. */
export interface KvmProbe {
  readonly supported: boolean;
  readonly ioctl: number;
  readonly errno: number;
  readonly apiVersion: number;
  readonly extension: number;
}

/** How far a range was copied; see native/src/copy-range.h. Counts are bytes. */
export interface CopiedRange {
  readonly copied: number;
  readonly shared: number;
  readonly errno: number;
  /** Whether it was the input that failed, where `errno` is not 0. */
  readonly reading: boolean;
}

/** The compiled part of the package. */
export interface Addon {
  probe(): KvmProbe;
  /** On Linux only. Both descriptors must stay open until it is done; it never rejects. */
  copyRange?(
    inFd: number,
    inOffset: number,
    outFd: number,
    outOffset: number,
    length: number,
  ): Promise<CopiedRange>;
}

export type AddonLoad =
  | { readonly addon: Addon; readonly failure?: undefined }
  | { readonly addon?: undefined; readonly failure: unknown };

/** Set to anything, this variable makes the package work as where the addon could not be built. */
const OFF = 'SPAPR_HTAB_NO_ADDON';

let loaded: AddonLoad | undefined;

/** The addon, or why it is not there: the package works without it. */
export function loadAddon(): AddonLoad {
  if (process.env[OFF]) return { failure: new Error(`it is switched off by ${OFF}`) };
  if (loaded === undefined) {
    try {
      const load = createRequire(import.meta.url)('node-gyp-build') as (folder: string) => Addon;
      loaded = { addon: load(fileURLToPath(new URL('../../native', import.meta.url))) };
    } catch (failure) {
      loaded = { failure };
    }
  }
  return loaded;
}
