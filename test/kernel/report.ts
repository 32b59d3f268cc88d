import type { Host } from '../fd-conformance/backend.js';
import { operationText, runSequence, type SequencePlan } from '../fd-conformance/random.js';
import { softwareBackend } from '../fd-conformance/software-backend.js';

export type { Host };

export interface CheckResult {
  readonly id: string;
  readonly outcome: 'passed' | 'failed' | 'not applicable';
  readonly reason?: string;
  readonly seconds?: number;
}

/** Answers of a kernel to a sequence of random operations; see fd-conformance/random.ts. */
export interface SequenceResult extends SequencePlan {
  readonly answers: readonly string[];
}

export interface ConformanceResult {
  readonly host: Host;
  readonly checks: readonly CheckResult[];
  readonly sequences: readonly SequenceResult[];
}

export interface Difference {
  readonly operation: string;
  readonly kernel: string;
  readonly software: string;
}

/** Runs a recorded sequence on the table in memory: where its answers are others. */
export async function compare(host: Host, recorded: SequenceResult): Promise<Difference[]> {
  const differences: Difference[] = [];
  const backend = softwareBackend(host, 'kernel');
  let at = 0;
  await runSequence(backend, recorded, (operation, software) => {
    const kernel = recorded.answers[at] ?? 'nothing';
    const text = `${recorded.kind}, seed ${recorded.seed}, ${at}: ${operationText(operation)}`;
    if (kernel !== software) differences.push({ operation: text, kernel, software });
    at++;
  });
  return differences;
}
