import type { Trial } from './examine.js';

/** A kind of input about which QEMU and the package disagree; docs/differential.md has the reasons. */
export interface DisagreementClass {
  readonly name: string;
  readonly qemu: Trial['qemu']['kind'];
  /** The package's error code, or whether it takes the file. */
  readonly ours: 'accepts' | 'refuses' | `E_${string}`;
  /** What else both say. Default: nothing. */
  readonly matches?: (said: {
    /** The package's error in words, with what it expected and found. */
    readonly ours: string;
    readonly qemu: string;
    readonly warnings: readonly string[];
  }) => boolean;
}

const ASSERTION = "htab_load: Assertion `kvm_enabled()'";
const MEMORY = 'qemu_memalign: failed to allocate';
const numbers = (text: string): number[] => (text.match(/\d+/g) ?? []).map(Number);

export const CLASSES: readonly DisagreementClass[] = [
  {
    name: 'order-below-18',
    qemu: 'accepts',
    ours: 'E_ORDER',
    matches: ({ ours }) => (numbers(ours).at(-1) ?? 18) < 18,
  },
  {
    name: 'order-above-46',
    qemu: 'accepts',
    ours: 'E_ORDER',
    matches: ({ ours }) => (numbers(ours).at(-1) ?? 46) > 46,
  },
  {
    name: 'kind-of-element',
    qemu: 'accepts',
    ours: 'E_SECTION',
    matches: ({ ours }) => ours.includes('where none belongs'),
  },
  {
    name: 'blocks-before-the-order',
    qemu: 'accepts',
    ours: 'E_SECTION',
    matches: ({ ours }) => ours.includes('blocks come before the order'),
  },
  {
    name: 'shared-id',
    qemu: 'accepts',
    ours: 'E_SECTION',
    matches: ({ ours }) => ours.includes('two sections have the same id'),
  },
  { name: 'no-section', qemu: 'accepts', ours: 'E_NO_SECTION' },
  {
    name: 'description-cut-short',
    qemu: 'accepts',
    ours: 'E_TRUNCATED',
    matches: ({ ours }) => ours.includes('the vmdescription'),
  },
  {
    name: 'little-endian-headers',
    qemu: 'refuses',
    ours: 'accepts',
    matches: ({ qemu, warnings }) => qemu.includes('bad index') && warnings.includes('W_HTAB'),
  },
  {
    name: 'instance',
    qemu: 'refuses',
    ours: 'accepts',
    matches: ({ qemu }) => qemu.includes("Unknown savevm section or instance 'spapr/htab'"),
  },
  {
    name: 'part-after-no-hpt',
    qemu: 'crashes',
    ours: 'accepts',
    matches: ({ qemu }) => qemu.includes(ASSERTION),
  },
  {
    name: 'no-memory-for-the-table',
    qemu: 'crashes',
    ours: 'accepts',
    matches: ({ qemu }) => qemu.includes(MEMORY),
  },
  // Neither takes it, but QEMU ends by a signal.
  {
    name: 'assertion',
    qemu: 'crashes',
    ours: 'refuses',
    matches: ({ qemu }) => qemu.includes(ASSERTION),
  },
  {
    name: 'memory',
    qemu: 'crashes',
    ours: 'refuses',
    matches: ({ qemu }) => qemu.includes(MEMORY),
  },
  {
    name: 'sum-wraps',
    qemu: 'crashes',
    ours: 'E_BLOCK_RANGE',
    matches: ({ ours, qemu }) => {
      const [index = 0, valid = 0, invalid = 0] = numbers(ours).slice(-3);
      return qemu.includes('SIGSEGV') && index + valid + invalid >= 2 ** 32;
    },
  },
];

/** The class of a disagreement. */
export function classOf({ ours, qemu }: Trial): DisagreementClass | undefined {
  const { verdict, warnings } = ours;
  const error = verdict.kind === 'refuses' ? verdict.error : undefined;
  const said = {
    ours: error === undefined ? '' : `${error.message} ${error.expected} ${error.actual}`,
    qemu: qemu.kind === 'accepts' ? '' : qemu.why,
    warnings,
  };
  return CLASSES.find((one) => {
    if (one.qemu !== qemu.kind) return false;
    if (one.ours !== verdict.kind && one.ours !== error?.code) return false;
    return one.matches?.(said) ?? true;
  });
}
