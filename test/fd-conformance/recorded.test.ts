import { describe, expect, test } from 'vitest';
import { readRecording } from '../kernel/recordings.js';
import { compare } from '../kernel/report.js';

/** What real kernels answered (`npm run test:kernel -- --record`), for machines without QEMU. */
describe.each(['power8', 'power9-radix', 'power9-hash'] as const)('%s', (host) => {
  const { sequences, kernel } = readRecording(host);
  test(`the table in memory answers as ${kernel}`, async () => {
    expect(sequences.length).toBeGreaterThan(0);
    for (const sequence of sequences) {
      expect(sequence.answers.length).toBeGreaterThan(sequence.length);
      expect(await compare(host, sequence)).toEqual([]);
    }
  });
});
