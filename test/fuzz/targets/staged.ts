import fc from 'fast-check';
import { NO_LAYOUT } from '../layout.js';
import type { Parsed, Target } from '../target.js';

const never = (): Promise<Parsed> => new Promise(() => {});

/**
 * Parsers with a known fault, which the watchdog and the judge must see: the proof that a run without
 * findings means something. The name says the fault; inputs that begin with an even byte are sound.
 */
const FAULTS: Readonly<Record<string, (bytes: Buffer) => Promise<Parsed>>> = {
  hang: async () => {
    for (let turns = 0; ; turns++) if (turns < 0) return never();
  },
  // No code runs, and nothing will ever come.
  wait: never,
  'out of heap': async () => {
    const kept: number[][] = [];
    for (;;) kept.push(new Array(1_000_000).fill(0.5));
  },
  // Outside the heap of JavaScript.
  'out of memory': async () => {
    const kept: Buffer[] = [];
    for (;;) {
      kept.push(Buffer.alloc(16 * 1024 * 1024, 1));
      await new Promise((resolve) => setImmediate(resolve));
    }
  },
  // A little for each input, and for good.
  leak: async () => {
    KEPT.push(Buffer.alloc(4 * 1024 * 1024, 1));
    return { value: 'fine' };
  },
  crash: async () => {
    process.kill(process.pid, 'SIGSEGV');
    return never();
  },
  'wrong error': async () => {
    throw new TypeError('cannot read properties of undefined');
  },
  'lost rejection': async () => {
    void Promise.reject(new Error('nobody waits for this'));
    await new Promise((resolve) => setTimeout(resolve, 20));
    return { value: 'fine' };
  },
  'other result': async () => ({ value: `${++calls}` }),
  'offset beyond': async (bytes) => ({ value: 'fine', offsets: [bytes.length + 1] }),
};
let calls = 0;
const KEPT: Buffer[] = [];

export const STAGED: readonly Target[] = Object.entries(FAULTS).map(([name, fault]) => ({
  name: `staged: ${name}`,
  variants: ['any'],
  feeds: 'any',
  valid: fc.constant({ bytes: Buffer.from('0123') }),
  layout: () => NO_LAYOUT,
  parse: async (source, { bytes }) => {
    await source.close();
    if (((bytes[0] ?? 0) & 1) === 0) return { value: 'fine' };
    return fault(bytes);
  },
}));
