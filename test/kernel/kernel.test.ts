import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { MissingPackage } from '../../fixtures/capture/apt.js';
import { fixture, fixtureUrl } from '../helpers/fixtures.js';
import { MACHINES, POWER9, prepare, runOnKernel } from './machine.js';
import { whatIsMissing } from './programs.js';
import { conformanceOn } from './run.js';

const program = (name: string) => fileURLToPath(new URL(`${name}.ts`, import.meta.url));

/** For a machine, which takes a minute at most where nothing else runs. */
const SECONDS = 600;
/** For a test: whatever it is that takes so long, QEMU ends first. Packages may have to be fetched. */
const TIMEOUT = (SECONDS + 60) * 1000;

let missing = whatIsMissing();

beforeAll(async () => {
  if (missing === undefined) {
    await prepare().catch((error: unknown) => {
      if (!(error instanceof MissingPackage)) throw error;
      missing = error.message;
    });
  }
  if (missing !== undefined) {
    console.warn(`\n!!! THE HTAB FD OF A REAL KERNEL IS NOT TESTED: ${missing} !!!\n`);
  }
}, TIMEOUT);

function needsMachine(context: TestContext): void {
  context.skip(missing !== undefined, missing);
}

describe('a program on a real kernel', { timeout: TIMEOUT }, () => {
  test.for(MACHINES)('$name: the conformance suite', async (machine, context) => {
    needsMachine(context);
    const { checks, compared, differences, seconds } = await conformanceOn(machine, {
      sequences: 3,
      seconds: SECONDS,
      signal: context.signal,
    });
    expect(checks.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
    expect(differences).toEqual([]);
    const passed = checks.filter(({ outcome }) => outcome === 'passed').length;
    console.log(
      `${machine.name}: ${passed} conformance checks, ${compared} random operations, ` +
        `${seconds.toFixed(0)} s`,
    );
    expect(passed).toBeGreaterThan(60);
    expect(compared).toBeGreaterThan(9000);
  });

  test('gets arguments, flags and files, and its output and status come out', async (context) => {
    needsMachine(context);
    const snapshot = fixture('containers/libvirt-gzip.save.gz');
    const run = await runOnKernel(POWER9, program('echo'), {
      args: ['3', "it's", '$HOME'],
      nodeFlags: ['--expose-gc'],
      files: { 'a folder/text': Buffer.from('text'), snapshot: fixtureUrl(snapshot.file) },
      seconds: SECONDS,
      signal: context.signal,
    });
    expect(JSON.parse(run.stdout)).toEqual({
      words: ["it's", '$HOME'],
      gc: 'function',
      text: 'text',
    });
    expect(run.stderr).toBe('to stderr\n');
    expect(run.status).toBe(3);
    const info = JSON.parse(String(run.results.get('info.json')));
    expect(info.hpt.order).toBe(snapshot.order);
  });

  test('a machine that takes too long is ended, and its console shown', async (context) => {
    needsMachine(context);
    const run = runOnKernel(POWER9, program('echo'), { seconds: 2, signal: context.signal });
    await expect(run).rejects.toThrow(/2 s were over[\s\S]*--- console/);
  });

  test('a machine can be ended', async (context) => {
    needsMachine(context);
    const reason = new Error('enough');
    const controller = new AbortController();
    const signal = AbortSignal.any([controller.signal, context.signal]);
    setTimeout(() => controller.abort(reason), 1000);
    const run = runOnKernel(POWER9, program('echo'), { seconds: SECONDS, signal });
    await expect(run).rejects.toBe(reason);
  });
});
