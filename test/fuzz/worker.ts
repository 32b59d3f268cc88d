/**
 * The process in which parsers are tried: started, watched and, where it must be, ended by watch.ts.
 * Before each input it writes down what the input is, and counts it, so that who watches knows.
 */
import { ftruncateSync, mkdirSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { FEEDS } from './feeds.js';
import { storeFinding } from './finding.js';
import { Fuzzer } from './fuzzer.js';
import { type Input, Judge } from './judge.js';
import type { Task, WorkerMessage } from './messages.js';
import { Violation } from './target.js';
import { targetOf } from './targets/all.js';

const [, , scratch = '', found = '', limit = '0'] = process.argv;
/** Largest resident set that is allowed, in bytes. */
const MOST_MEMORY = Number(limit);
/** Above this the process is replaced: what earlier inputs left to the collector is not the next one's. */
const RETIRE_AT = MOST_MEMORY / 2;
/** Memory in use, when all that can be collected was, in bytes: more of it is a leak. */
const MOST_KEPT = 128 * 1024 * 1024;
const REPORT_EVERY = 500;

mkdirSync(scratch, { recursive: true });
const current = openSync(join(scratch, 'current.bin'), 'w');
const facts = openSync(join(scratch, 'current.json'), 'w');
const beat = openSync(join(scratch, 'beat'), 'w');
let count = 0;
let lost: unknown;
process.on('unhandledRejection', (reason) => {
  lost = reason;
});

const send = (message: WorkerMessage): void => void process.send?.(message);

function announce(parser: string, { bytes, variant, valid }: Input): void {
  overwrite(current, bytes);
  overwrite(facts, Buffer.from(JSON.stringify({ parser, variant, ...(valid && { valid }) })));
  const number = Buffer.alloc(8);
  number.writeBigUInt64LE(BigInt(++count));
  writeSync(beat, number, 0, 8, 0);
}

function overwrite(fd: number, bytes: Uint8Array): void {
  ftruncateSync(fd, bytes.length);
  writeSync(fd, bytes, 0, bytes.length, 0);
}

/** What went wrong in the process while an input was tried, though its result is right. */
async function aftermath(): Promise<Violation | undefined> {
  if (lost !== undefined) {
    const reason = lost instanceof Error ? lost.stack : String(lost);
    lost = undefined;
    return new Violation(
      'rejection',
      `a promise was rejected, and nobody waited for it: ${reason}`,
    );
  }
  const { maxRSS } = process.resourceUsage();
  if (maxRSS * 1024 <= MOST_MEMORY) return undefined;
  return new Violation('memory', `the process grew to ${Math.round(maxRSS / 1024)} MiB`);
}

/** Whether there is room for another input in this process. */
async function hasRoom(): Promise<boolean> {
  // Streams and processes end, and buffers are swept, a while after nobody holds them.
  for (let turn = 0; turn < 5 && process.memoryUsage.rss() >= RETIRE_AT; turn++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return process.memoryUsage.rss() < RETIRE_AT;
}

/** Descriptors that stay open though everything ended. */
async function descriptors(): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, 20));
  return process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
}

async function fuzz({
  parser,
  seed,
  inputs,
  seconds,
  most,
}: Extract<Task, { type: 'fuzz' }>): Promise<'done' | 'retired'> {
  const fuzzer = new Fuzzer(targetOf(parser), seed, join(scratch, 'work'));
  await fuzzer.begin();
  const { figures } = fuzzer;
  const began = performance.now();
  let reported = began;
  let findings = 0;
  let open = 0;
  while (figures.inputs < inputs && performance.now() - began < seconds * 1000 && findings < most) {
    let tried: Input | undefined;
    const broken = await fuzzer.step((input) => {
      tried = input;
      announce(parser, input);
    });
    const after = await aftermath();
    if (tried === undefined) throw new Error('nothing was tried');
    const { bytes, variant, valid } = tried;
    const wrong = broken ?? after;
    if (wrong !== undefined) {
      findings++;
      const { invariant, message } = wrong;
      const { feeds } = broken ?? {};
      const finding = {
        parser,
        variant,
        invariant,
        message,
        ...(feeds && { feeds: [...feeds] }),
        ...(valid && { valid }),
      };
      send({ type: 'finding', path: storeFinding(found, bytes, finding), finding });
      // Memory that was used once stays counted: another process begins anew.
      if (invariant === 'memory') process.exit(0);
    }
    if (!(await hasRoom())) {
      const { heapUsed, external } = process.memoryUsage();
      if (heapUsed + external > MOST_KEPT) {
        const message = `${Math.round((heapUsed + external) / 2 ** 20)} MiB cannot be collected`;
        const finding = { parser, variant, invariant: 'leak', message };
        send({ type: 'finding', path: storeFinding(found, bytes, finding), finding });
      }
      send({ type: 'figures', figures: { ...figures, milliseconds: performance.now() - began } });
      return 'retired';
    }
    if (figures.inputs === 50) open = await descriptors();
    if (figures.inputs % 1000 === 999 && open > 0) {
      const now = await descriptors();
      if (now > open + 10) {
        findings++;
        const message = `${now} descriptors are open, ${open} were after 50 inputs`;
        const finding = { parser, variant, invariant: 'descriptors', message };
        send({ type: 'finding', path: storeFinding(found, bytes, finding), finding });
        open = now;
      }
    }
    const now = performance.now();
    figures.milliseconds = now - began;
    if (now - reported > REPORT_EVERY) {
      reported = now;
      send({ type: 'figures', figures });
    }
  }
  send({ type: 'figures', figures });
  return 'done';
}

/** One input, by every way. */
async function replay(task: Extract<Task, { type: 'replay' }>): Promise<void> {
  const { parser, variant, bytes, valid } = task;
  const judge = new Judge(targetOf(parser), join(scratch, 'work'));
  const input = { bytes: Buffer.from(bytes, 'base64'), variant, ...(valid && { valid }) };
  announce(parser, input);
  try {
    await judge.judge(input, judge.feeds().slice(1, FEEDS.length));
    await new Promise((resolve) => setTimeout(resolve, 5));
    const after = await aftermath();
    if (after !== undefined) throw after;
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    const { invariant, message } = error;
    send({ type: 'finding', path: undefined, finding: { parser, variant, invariant, message } });
  }
}

process.on('message', (task: Task) => {
  const work = task.type === 'fuzz' ? fuzz(task) : replay(task);
  work.then(
    (end) => send({ type: end ?? 'done' }),
    (error: unknown) => {
      console.error(error);
      process.exit(70);
    },
  );
});
process.on('disconnect', () => {
  rmSync(scratch, { recursive: true, force: true });
  process.exit(0);
});
send({ type: 'ready' });
