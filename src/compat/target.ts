import type { TargetState, VmstateDump } from './dump.js';

/** Classes of the target whose state has one name. */
export interface Candidates {
  /** Names of the classes, at most {@link MAX_NAMES}. */
  readonly classes: readonly string[];
  /** Their descriptions, each once: many classes share one. */
  readonly states: readonly TargetState[];
}

const MAX_NAMES = 20;

/** Finds the descriptions that a section may be read with. */
export class TargetIndex {
  readonly #byName = new Map<string, { classes: string[]; states: Map<string, TargetState> }>();

  constructor(dump: VmstateDump) {
    for (const { name, state } of dump.classes) {
      let known = this.#byName.get(state.name);
      if (known === undefined) {
        known = { classes: [], states: new Map() };
        this.#byName.set(state.name, known);
      }
      if (known.classes.length < MAX_NAMES) known.classes.push(name);
      known.states.set(JSON.stringify(state), state);
    }
  }

  /**
   * Sections are called by the state's name, after the device's path and a slash if it has one
   * (migration/savevm.c vmstate_register_with_alias_id). Both may have slashes of their own.
   * @param vmsdName name of the state where the stream tells it
   */
  find(section: string, vmsdName: string | undefined): Candidates {
    const classes: string[] = [];
    const states: TargetState[] = [];
    for (const name of endings(section)) {
      if (vmsdName !== undefined && vmsdName !== name) continue;
      const known = this.#byName.get(name);
      for (const type of known?.classes ?? []) classes.push(type);
      for (const state of known?.states.values() ?? []) states.push(state);
    }
    return { classes, states };
  }
}

/** All of a name, and what follows each of its slashes. */
export function* endings(name: string): Generator<string> {
  yield name;
  for (let at = name.indexOf('/'); at >= 0; at = name.indexOf('/', at + 1)) {
    yield name.slice(at + 1);
  }
}
