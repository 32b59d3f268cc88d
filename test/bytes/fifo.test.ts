import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { inspect, openFile, openHpt, rewrite, verify } from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { pattern, readAll } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';
import { smallGuest } from '../helpers/stream.js';
import { refusal } from '../rewrite/support.js';

function fifo(): string {
  const path = scratchFile('fifo');
  execFileSync('mkfifo', [path]);
  return path;
}

/** Whether a process has the file open. */
function holds(path: string, pid: number | string = 'self'): boolean {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).some((fd) => {
    try {
      return readlinkSync(`${folder}/${fd}`) === path;
    } catch {
      return false;
    }
  });
}

describe('a FIFO', () => {
  test('whose writer comes late is read to its end', async () => {
    const path = fifo();
    const bytes = pattern(300_000);
    const source = await openFile(path);
    expect(source).toMatchObject({ name: path, size: undefined, seekable: false });
    const reading = readAll(source);
    const writer = await open(path, 'w');
    for (const at of [0, 100, 200_000]) {
      await writer.writeFile(bytes.subarray(at, { 0: 100, 100: 200_000 }[at]));
      await delay(5);
    }
    await writer.close();
    expect((await reading).equals(bytes)).toBe(true);
    await source.close();
    expect(holds(path)).toBe(false);
  });

  test('whose writer says nothing is empty', async () => {
    const path = fifo();
    const source = await openFile(path);
    const reading = readAll(source);
    await (await open(path, 'w')).close();
    expect((await reading).length).toBe(0);
    await source.close();
  });

  test('with a snapshot in it', async () => {
    const path = fifo();
    const info = inspect(path);
    const writer = await open(path, 'w');
    await writer.writeFile(smallGuest());
    await writer.close();
    expect(await info).toMatchObject({ format: 'snapshot', hpt: { order: 18 } });
  });

  test.each([
    ['openHpt', (path: string, signal: AbortSignal) => openHpt(path, { signal })],
    ['inspect', (path: string, signal: AbortSignal) => inspect(path, { signal })],
    ['verify', (path: string, signal: AbortSignal) => verify(path, { signal })],
    [
      'rewrite',
      (path: string, signal: AbortSignal) => rewrite(path, scratchFile('out'), { signal }),
    ],
  ])('without a writer: %s is aborted, and nothing stays open', async (_, begin) => {
    for (const before of [true, false]) {
      const path = fifo();
      const controller = new AbortController();
      const waiting = refusal(begin(path, controller.signal));
      if (!before) while (!holds(path)) await delay(1);
      controller.abort();
      expect((await waiting).code).toBe('E_ABORTED');
      while (holds(path)) await delay(1);
    }
  });
});

describe('a signal ends the command that waits for', () => {
  const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
  const guest = scratchFile('guest.mig', smallGuest());
  const out = scratchFile('out');
  const cases: [string, (path: string) => string[]][] = [
    ['info', (path) => ['info', path]],
    ['convert', (path) => ['convert', path, '-o', out, '--to', 'section']],
    ['rewrite --htab', (path) => ['rewrite', guest, '-o', out, '--htab', path]],
    [
      'rewrite --xml',
      (path) => ['rewrite', guest, '-o', out, '--container', 'libvirt', '--xml', path],
    ],
    ['check --vmstate', (path) => ['check', guest, '--vmstate', path]],
  ];

  /** Runs until the FIFO is open, then sends the signal. */
  async function interrupted(path: string, child: ChildProcess, signal: NodeJS.Signals) {
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    try {
      for (let tries = 0; !holds(path, child.pid); tries++) {
        expect(tries).toBeLessThan(1000);
        await delay(10);
      }
      child.kill(signal);
      return await Promise.race([ended, delay(20_000, 'still there', { ref: false })]);
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
  }

  test.each(cases)('a writer: %s', async (_, args) => {
    const path = fifo();
    const child = spawn(process.execPath, [main, ...args(path)], { stdio: 'ignore' });
    expect(await interrupted(path, child, 'SIGINT')).toBe(130);
  });

  test('bytes of one that is there', async () => {
    const path = fifo();
    const writer = await open(path, 'r+');
    const child = spawn(process.execPath, [main, 'info', path], { stdio: 'ignore' });
    expect(await interrupted(path, child, 'SIGTERM')).toBe(143);
    await writer.close();
  });
});
