import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Case, Size } from '../case.js';
import { type HptShape, kernelBytes, writeKernel } from '../inputs/hpt.js';

const CHILD = fileURLToPath(new URL('../table-child.mjs', import.meta.url));

/** What the child tells of itself; see table-child.mjs. */
interface TableReport {
  readonly seconds: number;
  readonly valid: number;
  readonly bytesPerEntry: number;
}

/** Seconds that building the table of 10 million entries may take, and bytes beyond its entries. */
const SECONDS = 3;
const BYTES = 24;

/** A HashPageTable in memory, by number of valid entries, in a process of its own. */
export function tableCases(order: number, entries: readonly number[]): Case[] {
  return [
    {
      name: `HashPageTable of order ${order}`,
      group: 'table',
      sizes: entries.map((count) => sizeOf({ order, entries: count, runs: 'single' })),
      // Of what is held whole, there is no bound but the one for each entry.
      peak: Number.POSITIVE_INFINITY,
    },
  ];
}

function sizeOf(shape: HptShape): Size {
  const { order, entries } = shape;
  return {
    label: entries >= 1e6 ? `${entries / 1e6} M entries` : `${entries} entries`,
    amount: entries,
    outputBytes: 4096,
    prepare: ({ inputs, output, references }) => {
      const path = inputs.make(`table-${order}-${entries}.htab`, kernelBytes(shape), (out) =>
        writeKernel(out, [shape]),
      );
      const [stdout, count] = [output('table.json'), output('fold.txt')];
      const report = (): TableReport => JSON.parse(readFileSync(stdout, 'utf8'));
      const command = [process.execPath, '--expose-gc', CHILD, path, String(order)];
      const fold = { command: [references.fold, String(order), path], stdout: count };
      return {
        ours: { command, stdout, output: stdout },
        against: [{ name: 'C, flat table', run: fold }],
        figures: [
          { name: 's to build', limit: SECONDS, read: () => report().seconds },
          { name: 'bytes an entry', limit: BYTES, read: () => report().bytesPerEntry },
        ],
        check: () => {
          const counted = Number(readFileSync(count, 'utf8'));
          const { valid } = report();
          if (valid !== entries || counted !== entries) {
            throw new Error(`${entries} entries were made, ${valid} and ${counted} were found`);
          }
        },
      };
    },
  };
}
