import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fixture, load } from '../helpers/fixtures.js';
import { random } from '../helpers/random.js';
import { classOf, type DisagreementClass } from './classes.js';
import { MUTATIONS } from './mutations.js';
import { Draw, soundStream } from './sound.js';
import { Frame, type Spliced } from './splice.js';
import { compacted, type OurVerdict, ours, put, qemus, type Verdict } from './verdicts.js';

const BASE = 'qemu/slof-7.2.mig.gz';

/** One mutated stream and what both make of it. */
export interface Trial {
  readonly seed: number;
  readonly number: number;
  readonly mutations: readonly string[];
  readonly stream: Spliced;
  readonly ours: OurVerdict;
  readonly qemu: Verdict;
}

/** What came of a trial: agreement, a known class of disagreement, or something that must not be. */
export type Result =
  | { readonly kind: 'accepted' | 'refused' }
  | { readonly kind: 'class'; readonly known: DisagreementClass }
  | { readonly kind: 'unexplained'; readonly what: string };

export class Differential {
  private constructor(
    readonly frame: Frame,
    readonly folder: string,
  ) {}

  static async create(folder: string): Promise<Differential> {
    return new Differential(await Frame.of(load(fixture(BASE))), folder);
  }

  /** The stream of that number: mutations take turns, and every third has two. */
  make(seed: number, number: number): { stream: Spliced; mutations: string[] } {
    const draw = new Draw(random(seed * 1_000_003 + number));
    const stream = soundStream(this.frame, draw);
    const chosen = [MUTATIONS[number % MUTATIONS.length]];
    if (draw.chance(3)) chosen.push(draw.pick(MUTATIONS));
    for (const mutation of chosen) mutation?.apply(stream, draw, this.frame);
    return { stream, mutations: chosen.map((mutation) => mutation?.name ?? '') };
  }

  /** @param worker a folder of its own for each that runs at the same time */
  async trial(seed: number, number: number, worker = '0'): Promise<Trial> {
    const folder = join(this.folder, worker);
    mkdirSync(folder, { recursive: true });
    const { stream, mutations } = this.make(seed, number);
    const bytes = this.frame.put(stream);
    const path = await put(folder, bytes);
    const our = await ours(path, bytes, folder);
    const accepted = our.verdict.kind === 'accepts';
    const qemu = await qemus(fixture(BASE), path, { table: accepted });
    return { seed, number, mutations, stream, ours: our, qemu };
  }

  /** Of an accepted one: whether QEMU loads the same from what `rewrite` makes of it. */
  async rewritten(trial: Trial, worker = '0'): Promise<string | undefined> {
    if (trial.qemu.kind !== 'accepts' || trial.ours.verdict.kind !== 'accepts') return undefined;
    if (trial.ours.verdict.table === null) return undefined;
    const folder = join(this.folder, worker);
    const path = await put(folder, this.frame.put(trial.stream));
    const qemu = await qemus(fixture(BASE), await compacted(path, folder), { table: true });
    if (qemu.kind !== 'accepts') return `QEMU does not load it rewritten: ${qemu.why}`;
    const same = qemu.table?.equals(trial.ours.verdict.table) ?? false;
    return same ? undefined : 'QEMU loads something else from it rewritten';
  }
}

export function judge(trial: Trial): Result {
  const { ours: our, qemu } = trial;
  const disagreement = verbsDisagree(our);
  if (disagreement !== undefined) return { kind: 'unexplained', what: disagreement };
  if (qemu.kind === 'accepts' && our.verdict.kind === 'accepts') {
    const { table } = our.verdict;
    const same = table === null ? qemu.table === null : qemu.table?.equals(table) === true;
    if (same) return { kind: 'accepted' };
    return known(trial) ?? { kind: 'unexplained', what: 'QEMU loads another table' };
  }
  if (qemu.kind === 'refuses' && our.verdict.kind === 'refuses') return { kind: 'refused' };
  const said = our.verdict.kind === 'refuses' ? `refuses (${our.verdict.why})` : 'accepts';
  const why = qemu.kind === 'accepts' ? '' : `: ${qemu.why}`;
  return known(trial) ?? { kind: 'unexplained', what: `ours ${said}, QEMU ${qemu.kind}${why}` };
}

/** All of them take a file or none does. */
function verbsDisagree({ verbs }: OurVerdict): string | undefined {
  const { table, convert, verify, rewrite } = verbs;
  const taken = [table, convert, verify, rewrite].map((code) => code === 'ok');
  // A rewrite without edits copies what can be walked, however its parts follow each other.
  if (table === 'E_NO_SECTION' || table === 'E_SECTION') taken.pop();
  return new Set(taken).size === 1 ? undefined : `the verbs differ: ${JSON.stringify(verbs)}`;
}

function known(trial: Trial): Result | undefined {
  const found = classOf(trial);
  return found && { kind: 'class', known: found };
}

/** A trial in words, for what failed. */
export function describeTrial({ seed, number, mutations, stream }: Trial): string {
  const elements = Object.entries(stream.elements).map(
    ([place, list]) =>
      `${place}: ${list
        .map(({ type, id, payload, raw }) => {
          const chunks = payload.chunks.map((c) => `${c.index}+${c.nValid}+${c.nInvalid}`);
          return raw !== undefined
            ? `raw ${raw.subarray(0, 60).toString('hex')}`
            : `type ${type} id ${id} word ${payload.word} [${chunks}] marks ${payload.marks}`;
        })
        .join('; ')}`,
  );
  return `seed ${seed}, number ${number} (${mutations.join(', ')})\n  ${elements.join('\n  ')}`;
}
