import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Host } from '../fd-conformance/backend.js';
import type { SequenceResult } from './report.js';

/** What a kernel answered to random operations and hostile writes, kept for machines without QEMU. */
export interface Recording {
  readonly host: Host;
  /** Machine and kernel, in words. */
  readonly kernel: string;
  readonly sequences: readonly SequenceResult[];
}

const place = (host: Host): URL =>
  new URL(`../../fixtures/kernel/${host}.json.gz`, import.meta.url);

export function readRecording(host: Host): Recording {
  return JSON.parse(gunzipSync(readFileSync(place(host))).toString()) as Recording;
}

export function writeRecording(recording: Recording): void {
  mkdirSync(new URL('.', place(recording.host)), { recursive: true });
  writeFileSync(place(recording.host), gzipSync(JSON.stringify(recording), { level: 9 }));
}
