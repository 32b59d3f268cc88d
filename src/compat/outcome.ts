import { printable } from '../printable.js';

/**
 * What the target would make of a part of the snapshot:
 *
 * - `refused`: loading ends with an error there;
 * - `ok`: all that can be compared agrees;
 * - `unknown`: something cannot be told from a description; the reasons say what.
 */
export type Verdict = 'ok' | 'refused' | 'unknown';

/** Stable names of what was found. docs/check.md describes them. */
export type CheckReasonCode =
  /** The machine types differ. */
  | 'machine'
  /** One side has a configuration element, the other does not expect one. */
  | 'configuration'
  /** Capabilities must be set as on the source. */
  | 'capabilities'
  /** The guest's UUID must be the same. */
  | 'uuid'
  /** Newer than the target reads. */
  | 'version-too-new'
  /** Older than the target reads. */
  | 'version-too-old'
  /** The target knows no such subsection there. */
  | 'subsection-unknown'
  /** The stream has fields that the target does not read. */
  | 'extra-fields'
  /** The target reads fields that the stream does not have. */
  | 'missing-fields'
  /** The target reads other fields at that place. */
  | 'other-fields'
  /** The target reads another number of bytes for the field. */
  | 'field-size'
  /** A struct on one side only. */
  | 'field-shape'
  /** What the stream holds could not be divided into fields. */
  | 'undecoded'
  /** The stream does not describe the fields of the section. */
  | 'no-description'
  /** No device class of the target has state of that name. */
  | 'no-class'
  /** Registered without a device class: a dump never describes it. */
  | 'not-described'
  /** The walk ends there. */
  | 'unread'
  /** There are more reasons than are listed. */
  | 'more';

export interface CheckReason {
  readonly code: CheckReasonCode;
  /** Whether the target refuses the snapshot for this alone. */
  readonly refuses: boolean;
  /** Names that lead there, outermost first: `spapr_pci / lsi_table / irq`. */
  readonly path: string;
  readonly message: string;
}

const MAX_REASONS = 20;

/**
 * Collects what is found about one part. QEMU reads fields one after another and compares no names:
 * what counts in the end is whether it would come to the same place in the stream, where the footer
 * or the next element has to be. So each finding says how many bytes more the target would read
 * there than the stream has, as a range.
 */
export class Outcome {
  readonly reasons: CheckReason[] = [];
  readonly #seen = new Set<string>();
  #fatal = false;
  #unknown = false;
  #least = 0;
  #most = 0;

  /** The target ends with an error there, whatever stands around it. */
  refuse(code: CheckReasonCode, path: string, message: string): void {
    this.#fatal = true;
    this.#add({ code, refuses: true, path, message });
  }

  /** It depends on what cannot be seen. */
  doubt(code: CheckReasonCode, path: string, message: string): void {
    this.#unknown = true;
    this.#add({ code, refuses: false, path, message });
  }

  /** The target reads from `least` to `most` bytes more than are there; negative: fewer. */
  shift(
    code: CheckReasonCode,
    path: string,
    message: string,
    [least, most]: readonly [number, number],
  ): void {
    this.#least += least;
    this.#most += most;
    this.#unknown = true;
    this.#add({ code, refuses: least > 0 || most < 0, path, message });
  }

  get verdict(): Verdict {
    if (this.#fatal || this.#least > 0 || this.#most < 0) return 'refused';
    return this.#unknown ? 'unknown' : 'ok';
  }

  #add(reason: CheckReason): void {
    const { code, path } = reason;
    // Elements of an array have the same path.
    const key = `${code} ${path}`;
    if (this.#seen.has(key) || this.reasons.length > MAX_REASONS) return;
    this.#seen.add(key);
    const last = this.reasons.length === MAX_REASONS;
    const message = 'there is more, which is not listed';
    this.reasons.push(
      last
        ? { code: 'more', refuses: false, path, message }
        : { ...reason, message: printable(reason.message) },
    );
  }
}

/** The worst of several. */
export function worst(verdicts: Iterable<Verdict>): Verdict {
  const all = new Set(verdicts);
  if (all.has('refused')) return 'refused';
  return all.has('unknown') ? 'unknown' : 'ok';
}
