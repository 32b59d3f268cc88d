import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { random, scratch, scratchFile } from '../helpers/sources.js';
import { chunk, smallGuest, u64 } from '../helpers/stream.js';
import { MAIN } from './shim.js';

// What is in a guest's memory and page table is nobody's business: it is in outputs, and in nothing
// that is said.

/** As long as two words, so that entries are full of it, too. */
const SECRET = Buffer.from('Zq7#kW2!vR9&xT4%');
/** Damaged files of each kind. */
const DAMAGED = Number(process.env.SPAPR_HTAB_SECRETS ?? 8);
/** A part of the secret that is as long shows something of it. */
const SHOWN = 6;

/** The secret as it may be written: as it is, in hex and base64, from each of its bytes on. */
const traces = [...SECRET.keys()].flatMap((at) => {
  const turned = Buffer.concat([SECRET.subarray(at), SECRET.subarray(0, at)]).subarray(0, SHOWN);
  const number = Buffer.concat([Buffer.alloc(2), turned]).readBigUInt64BE();
  const reversed = Buffer.from(turned).reverse();
  return [
    turned.toString('latin1'),
    turned.toString('hex'),
    turned.toString('hex').toUpperCase(),
    reversed.toString('hex'),
    // Of whole groups of three: what stands before and behind does not change these.
    turned.toString('base64'),
    String(number),
  ];
});

/** The first bytes of a line or message that show something. */
function shown(text: string): string | undefined {
  return traces.find((trace) => text.includes(trace));
}

/** An entry with V set, all else of it secret. */
const entry = Buffer.from(SECRET);
entry[7] = (entry[7] ?? 0) | 1;

/** A guest whose pages and entries are full of the secret. Its device is not: `info` shows the state of devices. */
function guest(): Buffer {
  const bytes = Buffer.from(smallGuest());
  const page = Buffer.alloc(4096, 0x50);
  for (let at = bytes.indexOf(page); at >= 0; at = bytes.indexOf(page, at + 1)) {
    bytes.fill(SECRET, at, at + page.length);
  }
  // V, and a number that stands for the rest (helpers/stream.ts).
  for (let seed = 1; seed <= 4; seed++) {
    const dw1 = u64((BigInt(seed) << 12n) | 0x190n);
    const at = bytes.indexOf(dw1) - 8;
    entry.copy(bytes, at);
  }
  return bytes;
}

const table = Buffer.concat([
  chunk(0, Array(64).fill(entry), 100),
  chunk(164, Array(64).fill(entry), (1 << 14) - 228),
]);

const KINDS = [
  ['a snapshot', guest()],
  ['HTAB blocks', table],
  ['a flat image', Buffer.alloc(1 << 18, entry)],
  ['memory alone', Buffer.alloc(100_000, SECRET)],
] as const;

interface Said {
  readonly code: number | null;
  readonly text: string;
}

function say(args: readonly string[]): Promise<Said> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (piece: Buffer) => {
      text += piece.toString('latin1');
    });
  }
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, text })));
}

const output = join(scratch(), 'output');
const VERBS: readonly (readonly string[])[] = [
  ['info', '--devices'],
  ['info', '--json'],
  ['verify', '--json'],
  ['convert', '--to', 'section', '--force', '-o', output],
  ['convert', '--to', 'archive', '--canonical', '--force', '--json', '-o', output],
  ['rewrite', '--order', '19', '--force', '-o', output],
  ['ram', '--force', '-o', output],
];

/** A byte, a word or a longer piece becomes another one, goes, or comes again. */
function damaged(bytes: Buffer, next: () => number): Buffer {
  const at = Math.floor(next() * bytes.length);
  const length = 1 + Math.floor(next() * 16);
  const after = bytes.subarray(at + length);
  const before = bytes.subarray(0, at);
  switch (Math.floor(next() * 4)) {
    case 0:
      return Buffer.concat([before, after]);
    case 1:
      return Buffer.concat([before, bytes.subarray(at, at + length), bytes.subarray(at)]);
    case 2:
      return Buffer.from(before);
    default: {
      const noise = Buffer.from(Array.from({ length }, () => Math.floor(next() * 256)));
      return Buffer.concat([before, noise, after]);
    }
  }
}

test('the secret would be found', () => {
  const words = `${SECRET.toString('latin1')} ${SECRET.toString('hex')}`;
  expect(shown(words)).toBeDefined();
  expect(shown(`x${SECRET.subarray(3, 12).toString('latin1')}x`)).toBeDefined();
  expect(shown(`bytes ${SECRET.toString('hex', 5, 12)}`)).toBeDefined();
  expect(shown('nothing')).toBeUndefined();
});

describe.each(KINDS)('%s', (name, bytes) => {
  test('says nothing of what it holds, sound or damaged', async () => {
    const next = random(name.length);
    const input = scratchFile('input');
    const codes = new Set<number | null>();
    for (let i = 0; i < DAMAGED; i++) {
      const file = i === 0 ? bytes : damaged(bytes, next);
      writeFileSync(input, file);
      // Every verb on the sound one; in turn on the others.
      const verbs = i === 0 ? VERBS : VERBS.slice(i % VERBS.length).slice(0, 1);
      for (const [verb = '', ...rest] of verbs) {
        const { code, text } = await say([verb, input, ...rest]);
        codes.add(code);
        expect(shown(text), `${verb}, file ${i}: ${text}`).toBeUndefined();
        expect(text).not.toContain('internal error');
      }
    }
    expect(codes.size).toBeGreaterThan(name === 'memory alone' ? 0 : 1);
  }, 300_000);
});
