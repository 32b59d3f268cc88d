import { readFileSync } from 'node:fs';
import type { Case } from '../case.js';
import { ours } from '../programs.js';

/** What the command costs before it does anything. */
export function startCases(): Case[] {
  const node = { command: [process.execPath, '-e', '0'] };
  return [
    {
      name: 'start (--version)',
      group: 'start',
      repeat: 4,
      sizes: [
        {
          label: '',
          amount: 1,
          outputBytes: 4096,
          prepare: ({ output }) => {
            const stdout = output('version.txt');
            return {
              ours: { command: ours('--version'), stdout, output: stdout },
              against: [{ name: 'node -e 0', run: node, limit: 1.5 }],
              check: () => {
                const text = readFileSync(stdout, 'utf8');
                if (!/^\d+\.\d+\.\d+\n$/.test(text)) throw new Error(`no version: ${text}`);
              },
            };
          },
        },
      ],
    },
  ];
}
