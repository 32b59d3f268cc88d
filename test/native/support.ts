import { spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import type { NativeChild, NativeFile, NativeHtab, NativeOpen } from '../../src/addon/load.js';
import { addon } from '../bytes/support.js';
import { scratchFile } from '../helpers/sources.js';

/** Whether there is anything to test: elsewhere the addon has no files. */
export const LINUX = process.platform === 'linux';

export function htab(): NativeHtab {
  const { htab } = addon();
  if (htab === undefined) throw new Error('the addon has no HTAB fds');
  return htab;
}

export function child(): NativeChild {
  const { child } = addon();
  if (child === undefined) throw new Error('the addon has nothing for programs');
  return child;
}

/** The file, closed at the end of the test. */
export function opened({ file, errno }: NativeOpen): NativeFile {
  if (file === undefined) throw new Error(`errno ${errno}`);
  onTestFinished(() => file.close());
  return file;
}

/** What each descriptor of this process is, by number. */
export function descriptors(): Map<number, string> {
  const open = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      open.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The one that reads the folder.
    }
  }
  return open;
}

/** Waits for something that another thread or process does. */
export async function until(done: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await done())) await sleep(2);
}

export interface Peer {
  readonly pid: number;
  readonly name: string;
  /** What an expression of peer.py gives. */
  ask<T = unknown>(expression: string): Promise<T>;
}

/** Another process that listens on a Unix socket, until the end of the test. */
export async function startPeer(name = scratchFile('socket'), type = 'stream'): Promise<Peer> {
  const script = fileURLToPath(new URL('peer.py', import.meta.url));
  // Python does not expect a sanitizer beneath it.
  const { LD_PRELOAD: _, ...env } = process.env;
  const child = spawn('python3', [script, name, type], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env,
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  onTestFinished(async () => {
    child.stdin.end();
    await ended;
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the other process has ended');
    return JSON.parse(value);
  };
  const [pid] = await answer();
  const ask = async (expression: string) => {
    child.stdin.write(`${expression}\n`);
    return answer();
  };
  return { pid, name, ask };
}

/** Such a process, and a connection to it. */
export async function connectedPeer(name?: string, type?: string) {
  const peer = await startPeer(name, type);
  const socket = opened(htab().connect(peer.name));
  await peer.ask('accept()');
  return { ...peer, socket };
}

/** A descriptor that comes from a peer, which keeps the other end. */
export async function handed(expression: string): Promise<Peer & { readonly file: NativeFile }> {
  const { socket, ...peer } = await connectedPeer();
  await peer.ask(expression);
  return { ...peer, file: opened(htab().receive(socket)) };
}
