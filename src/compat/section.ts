import type { DeviceReport } from '../devices/describe.js';
import type { SectionIdentity } from '../qevm/elements.js';
import type { TargetState } from './dump.js';
import { type CheckReason, Outcome, type Verdict } from './outcome.js';
import { compareState, type Terms } from './state.js';
import { endings, type TargetIndex } from './target.js';

/** What the target makes of a section. */
export interface SectionCheck extends SectionIdentity {
  /** Position of the section's first element in the source, in bytes. */
  readonly offset: number;
  /** What was compared: nothing, the version alone, or versions, fields and subsections. */
  readonly compared: 'nothing' | 'version' | 'fields';
  /** Device classes of the target that have state of this name, 20 at most. */
  readonly classes: readonly string[];
  readonly verdict: Verdict;
  readonly reasons: readonly CheckReason[];
}

/** What sections are compared with. */
export interface Target extends Omit<Terms, 'outcome'> {
  readonly index: TargetIndex;
}

type Described = Pick<DeviceReport, 'section' | 'tree' | 'reason'>;
type Result = Omit<SectionCheck, keyof SectionIdentity | 'offset'>;

/**
 * State that QEMU registers without a device class, which `-dump-vmstate` therefore leaves out, and
 * where it does so (QEMU 7.2).
 */
const NOT_DESCRIBED: ReadonlyMap<string, string> = new Map([
  ['timer', 'softmmu/cpu-timers.c'],
  ['cpu_common', 'cpu.c'],
  ['cpu', 'target/ppc/machine.c'],
  ['spapr', 'hw/ppc/spapr.c'],
  ['spapr_cpu', 'hw/ppc/spapr_cpu_core.c'],
  ['spapr_iommu', 'hw/ppc/spapr_iommu.c'],
  ['spapr_drc', 'hw/ppc/spapr_drc.c'],
  ['icp/server', 'hw/intc/xics.c'],
  ['PCIBUS', 'hw/pci/pci.c'],
  ['globalstate', 'migration/global_state.c'],
  ['slirp', 'net/slirp.c'],
  ['audio', 'audio/audio.c'],
  ['replay', 'replay/replay-snapshot.c'],
]);

/**
 * Iterable sections that have had one version only, in all programs that know them: migration/ram.c
 * ram_load and hw/ppc/spapr.c htab_load refuse another.
 */
const ITERABLE_VERSIONS: ReadonlyMap<string, number> = new Map([
  ['ram', 4],
  ['spapr/htab', 1],
]);

/** An iterable section, of which nothing but name and version is known. */
export function checkIterable({ name, version }: SectionIdentity): Result {
  const outcome = new Outcome();
  const only = ITERABLE_VERSIONS.get(name);
  if (only === undefined) {
    outcome.doubt('not-described', name, 'state that is sent in parts is in no dump');
  } else if (version !== only) {
    const code = version > only ? 'version-too-new' : 'version-too-old';
    outcome.refuse(code, name, `version ${version}, and only ${only} is read`);
  }
  const compared = only === undefined ? 'nothing' : 'version';
  return { compared, classes: [], verdict: outcome.verdict, reasons: outcome.reasons };
}

/** A section where the walk ends. */
export function unread({ name }: SectionIdentity, reason: string): Result {
  const outcome = new Outcome();
  outcome.doubt('unread', name, `it and all that follows could not be read: ${reason}`);
  return { compared: 'nothing', classes: [], verdict: outcome.verdict, reasons: outcome.reasons };
}

/**
 * A device section. Several classes of the target may have state of its name; it does for the
 * snapshot if it does for one of them.
 */
export function checkDevice(device: Described, { index, counted, effort }: Target): Result {
  const { name } = device.section;
  const state = device.tree?.state;
  const { classes, states } = index.find(name, state?.vmsdName);
  let best: Outcome | undefined;
  for (const target of states) {
    const outcome = new Outcome();
    checkAgainst(device, target, { outcome, effort, counted });
    if (best === undefined || rank(outcome) < rank(best)) best = outcome;
  }
  if (best === undefined) return { compared: 'nothing', classes, ...notFound(name) };
  const { verdict, reasons } = best;
  return { compared: state === undefined ? 'version' : 'fields', classes, verdict, reasons };
}

function notFound(name: string): Pick<Result, 'verdict' | 'reasons'> {
  const outcome = new Outcome();
  const where = [...endings(name)].map((end) => NOT_DESCRIBED.get(end)).find(Boolean);
  if (where !== undefined) {
    const message = `registered without a device class (${where}): such state is in no dump`;
    outcome.doubt('not-described', name, message);
  } else {
    const message =
      'no device class of the target has state of this name: it has no such device, or registers ' +
      'its state elsewhere';
    outcome.doubt('no-class', name, message);
  }
  return { verdict: outcome.verdict, reasons: outcome.reasons };
}

function checkAgainst(
  { section, tree, reason }: Described,
  target: TargetState,
  terms: Terms,
): void {
  const { name, version } = section;
  const { outcome } = terms;
  if (version > target.version) {
    const message = `version ${version}, and the target reads up to ${target.version}`;
    outcome.refuse('version-too-new', name, message);
  } else if (version < target.minimumVersion) {
    const message = `version ${version}, and the target reads from ${target.minimumVersion} on`;
    outcome.refuse('version-too-old', name, message);
  } else if (tree === undefined) {
    const why =
      reason === 'too large'
        ? 'it is too large to be taken apart'
        : 'the stream does not describe its fields';
    outcome.doubt('no-description', name, `${why}; name and version agree`);
  } else {
    compareState(tree.state, target, version, name, terms);
  }
}

function rank({ verdict, reasons }: Outcome): number {
  return { ok: 0, unknown: 1000, refused: 2000 }[verdict] + reasons.length;
}
