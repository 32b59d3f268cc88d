import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { fixture, load } from '../helpers/fixtures.js';
import { random, scratchFile } from '../helpers/sources.js';
import { MAIN } from './shim.js';

const BYTES = load(fixture('containers/plain.mig.gz'));
const INPUT = scratchFile('input.mig', BYTES);
const VERBS = [
  ['convert', ['--to', 'kernel']],
  ['rewrite', ['--machine', 'pseries-7.1']],
  ['ram', []],
] as const;
/** Kills of each verb. */
const KILLS = Number(process.env.SPAPR_HTAB_KILLS ?? 8);

let folder = '';
let output = '';
beforeEach(() => {
  folder = scratchFile('folder');
  mkdirSync(folder);
  output = join(folder, 'output');
});

const temporaries = () => readdirSync(folder).filter((name) => name !== 'output');

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: string | null; stderr: string }>;
}

function start(verb: string, input: string, rest: readonly string[]): Running {
  const args = [MAIN, verb, input, '-o', output, '--force', ...rest];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (piece: Buffer) => {
    stderr += piece;
  });
  // Of one that ends while it is written to.
  child.stdin.on('error', () => undefined);
  const ended = new Promise<Awaited<Running['ended']>>((resolve) =>
    child.once('close', (code, signal) => resolve({ code, signal, stderr })),
  );
  return { child, ended };
}

describe.each(VERBS)('%s', (verb, rest) => {
  test('killed at random moments: the output is as it was, or whole, and the next run cleans up', async () => {
    const begun = Date.now();
    expect(await start(verb, INPUT, rest).ended).toMatchObject({ code: 0 });
    const duration = Date.now() - begun;
    const whole = readFileSync(output);
    const next = random(verb.length);
    for (let kill = 0; kill < KILLS; kill++) {
      const old = kill % 2 === 0;
      if (old) writeFileSync(output, 'old');
      else rmSync(output, { force: true });
      const { child, ended } = start(verb, INPUT, rest);
      await sleep(duration * (0.3 + 0.8 * next()));
      child.kill('SIGKILL');
      await ended;
      const now = existsSync(output) ? readFileSync(output) : undefined;
      const asItWas = old ? now?.equals(Buffer.from('old')) : now === undefined;
      expect(asItWas || now?.equals(whole), `kill ${kill}`).toBe(true);
    }
    expect(await start(verb, INPUT, rest).ended).toMatchObject({ code: 0 });
    expect(readFileSync(output).equals(whole)).toBe(true);
    expect(temporaries()).toEqual([]);
    expect(readFileSync(INPUT).equals(BYTES)).toBe(true);
  }, 300_000);

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s in the middle: code %i, and nothing is left', async (signal, code) => {
    writeFileSync(output, 'old');
    // From a pipe that stays open: there it waits.
    const { child, ended } = start(verb, '-', rest);
    child.stdin?.write(BYTES.subarray(0, BYTES.length / 2));
    while (temporaries().length === 0) await sleep(5);
    await sleep(50);
    child.kill(signal);
    const end = await ended;
    expect(end).toMatchObject({ code, signal: null });
    expect(end.stderr).toMatch(/^spapr-htab: .*abort.*\[E_ABORTED\]\n$/);
    expect(readFileSync(output, 'utf8')).toBe('old');
    expect(temporaries()).toEqual([]);
  });
});
