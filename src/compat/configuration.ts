import { lacksConfiguration } from '../qevm/configuration.js';
import type { Configuration } from '../qevm/elements.js';
import type { CheckReason, Verdict } from './outcome.js';
import { Outcome } from './outcome.js';

/** What the target makes of the beginning of the stream. */
export interface ConfigurationCheck {
  /** Machine type of the snapshot; undefined without a configuration element. */
  readonly machine: string | undefined;
  /** Machine type of the target. */
  readonly target: string;
  readonly verdict: Verdict;
  readonly reasons: readonly CheckReason[];
}

const PATH = 'configuration';

/**
 * Compares the configuration element (migration/savevm.c qemu_loadvm_state_header,
 * configuration_post_load, configuration_validate_capabilities; QEMU 7.2 to 11.1).
 */
export function checkConfiguration(
  configuration: Configuration | undefined,
  target: string,
): ConfigurationCheck {
  const outcome = new Outcome();
  const without = lacksConfiguration(target);
  const machine = configuration?.machine;
  if (configuration === undefined) {
    if (!without) {
      const message = `the stream has none, as of pseries-2.3 and older; ${target} expects it`;
      outcome.refuse('configuration', PATH, message);
    }
  } else if (without) {
    outcome.refuse('configuration', PATH, `${target} expects a stream that has none`);
  } else {
    checkElement(configuration, target, outcome);
  }
  return { machine, target, verdict: outcome.verdict, reasons: outcome.reasons };
}

function checkElement(configuration: Configuration, target: string, outcome: Outcome): void {
  const { machine, capabilities, uuid } = configuration;
  if (!sameMachine(machine, target)) {
    outcome.refuse('machine', `${PATH} / name`, `the snapshot is of ${machine}, not of ${target}`);
  }
  if (capabilities.length > 0) {
    const names = capabilities.join(', ');
    const message = `migration capabilities that must be set on the target: ${names}`;
    outcome.doubt('capabilities', `${PATH} / capabilities`, message);
  }
  if (uuid !== undefined) {
    const message = `a target that has a UUID must have this one: ${uuid}`;
    outcome.doubt('uuid', `${PATH} / uuid`, message);
  }
}

/** As strncmp over the received length: a received prefix passes, and nothing counts after a NUL. */
export function sameMachine(received: string, local: string): boolean {
  const end = received.indexOf('\0');
  return end < 0 ? local.startsWith(received) : received.slice(0, end) === local;
}
