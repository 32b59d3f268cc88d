import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { FileWriter } from '../bench/inputs/file-writer.js';
import { writeStream } from '../bench/inputs/stream.js';
import { BOTH } from '../bytes/support.js';
import { random, scratch } from '../helpers/sources.js';
import { MAIN } from './shim.js';

// Another process changes the input while the command reads it. What was mapped into memory and is
// cut off ends a process that does not expect it with SIGBUS.

const MIB = 1 << 20;
/** Half of its pages are zero: the stream has some 200 MiB. */
const RAM = 400 * MIB;
/** Runs of each verb that change while they read. */
const RUNS = Number(process.env.SPAPR_HTAB_CHANGES ?? 4);

const sound = join(scratch(), 'sound.mig');
const input = join(scratch(), 'input.mig');
const folder = join(scratch(), 'outputs');
const output = join(folder, 'output');
let size = 0;
beforeAll(() => {
  mkdirSync(folder);
  const out = new FileWriter(sound);
  writeStream(out, { ram: RAM, hpt: { order: 22, entries: 100_000, runs: 'single' } });
  out.close();
  size = statSync(sound).size;
});

interface End {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(args: readonly string[], addon: boolean) {
  const child: ChildProcess = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, SPAPR_HTAB_NO_ADDON: addon ? '' : '1' },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (piece: Buffer) => {
    stdout += piece;
  });
  child.stderr?.on('data', (piece: Buffer) => {
    stderr += piece;
  });
  let running = true;
  const ended = new Promise<End>((resolve) =>
    child.once('close', (code, signal) => {
      running = false;
      resolve({ code, signal, stdout, stderr });
    }),
  );
  return { ended, running: () => running };
}

const VERBS = [
  ['info', []],
  ['convert', ['--to', 'kernel', '--mark-parts', '--force', '-o', output]],
  ['rewrite', ['--machine', 'pseries-7.1', '--force', '-o', output]],
] as const;

describe.each(BOTH)('%s', (_, addon) => {
  test.each(VERBS)(
    '%s of a file that is cut off: the right result, or an error that says so',
    async (verb, rest) => {
      copyFileSync(sound, input);
      rmSync(output, { force: true });
      const args = [verb, input, ...rest];
      const begun = Date.now();
      const right = await start(args, addon).ended;
      expect(right).toMatchObject({ code: 0, stderr: '' });
      const duration = Date.now() - begun;
      const whole = existsSync(output) ? readFileSync(output) : undefined;
      const next = random(verb.length);
      let refused = 0;
      let earlier = 1;
      // More of them where each had come to its end by then, as on a machine that has become faster.
      for (let run = 0; run < RUNS || (refused === 0 && run < 5 * RUNS); run++) {
        copyFileSync(sound, input);
        if (whole !== undefined) writeFileSync(output, 'old');
        const { ended, running } = start(args, addon);
        await sleep(duration * earlier * (0.3 + 0.4 * next()));
        // Again and again, and longer in between; but never as long as it was.
        while (running()) {
          truncateSync(input, Math.floor(size * 0.9 * next()));
          await sleep(5 * next());
        }
        const { code, signal, stdout, stderr } = await ended;
        expect(signal).toBeNull();
        if (code === 0) {
          earlier *= 0.8;
          expect(stdout).toBe(right.stdout);
        } else {
          refused++;
          // Cut off, or zeros where something else was, or nothing that it can be any more.
          expect(code, stderr).toBeOneOf([1, 3, 4]);
          expect(stderr).toMatch(/^spapr-htab: .* \[E_\w+\]\n$/);
          expect(stderr).not.toContain('internal error');
        }
        if (whole !== undefined) {
          const now = readFileSync(output);
          const expected = code === 0 ? whole : Buffer.from('old');
          expect(now.equals(expected), `${verb}, run ${run}, code ${code}`).toBe(true);
        }
        expect(readdirSync(folder).filter((name) => name !== 'output')).toEqual([]);
      }
      // The moments were such that there was something to notice.
      expect(refused).toBeGreaterThan(0);
    },
    300_000,
  );

  test('a file that grows is read as it was', async () => {
    copyFileSync(sound, input);
    rmSync(output, { force: true });
    const args = ['convert', input, '--to', 'kernel', '-o', output];
    expect(await start(args, addon).ended).toMatchObject({ code: 0 });
    const whole = readFileSync(output);
    rmSync(output);
    const { ended, running } = start(args, addon);
    const fd = openSync(input, 'a');
    try {
      while (running()) {
        writeSync(fd, Buffer.alloc(4096, 0xff));
        await sleep(1);
      }
    } finally {
      ftruncateSync(fd, size);
      closeSync(fd);
    }
    expect(await ended).toMatchObject({ code: 0 });
    expect(readFileSync(output).equals(whole)).toBe(true);
  }, 300_000);
});
