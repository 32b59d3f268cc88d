import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';

/** What is stored beside an input that something is wrong with. */
const FindingSchema = v.object({
  parser: v.string(),
  variant: v.string(),
  /** Ways in which it came, beside whole. Default: all. */
  feeds: v.optional(v.array(v.string())),
  /** What does not hold: `hang`, `memory` and `crash` are the watchdog's. */
  invariant: v.string(),
  message: v.string(),
  /** What must come out of it, for a generated file that is valid. */
  valid: v.optional(v.object({ expected: v.optional(v.string()) })),
});
export type Finding = v.InferOutput<typeof FindingSchema>;

/** Stores an input as `NAME.bin` and what is wrong with it as `NAME.json`; gives the first's path. */
export function storeFinding(folder: string, bytes: Uint8Array, finding: Finding): string {
  mkdirSync(folder, { recursive: true });
  const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 10);
  const words = `${finding.parser}-${finding.invariant}-${hash}`;
  const path = join(folder, `${words.replaceAll(/[^\w-]+/g, '-')}.bin`);
  writeFileSync(path, bytes);
  writeFileSync(path.replace(/\.bin$/, '.json'), `${JSON.stringify(finding, null, 2)}\n`);
  return path;
}

export function loadFinding(path: string): { bytes: Buffer; finding: Finding } {
  const json: unknown = JSON.parse(readFileSync(path.replace(/\.bin$/, '.json'), 'utf8'));
  return { bytes: readFileSync(path), finding: v.parse(FindingSchema, json) };
}
