import { random } from '../../helpers/random.js';
import { u32 } from '../../helpers/stream.js';
import type { FileWriter } from './file-writer.js';

/**
 * How the valid entries of a table stand: alone, as those of Linux guests mostly do, which spread
 * by their hash; a few together; or as many as one block can count.
 */
export type Runs = 'single' | 'short' | 'dense';

export interface HptShape {
  readonly order: number;
  /** How many valid entries, fewer than half of the slots. */
  readonly entries: number;
  readonly runs: Runs;
  /** Whether gaps are counted as invalid, as in a first pass of kvm-hv. Default true. */
  readonly covers?: boolean;
  readonly seed?: number;
}

const MAX_RUN = 0xffff;
const MEAN_RUN = { single: 1, short: 5, dense: MAX_RUN } as const;
const LEAST_RUN = { single: 1, short: 2, dense: MAX_RUN } as const;

/** The blocks of a table, the same in every run, made on the way in constant memory. */
export class HptBlocks {
  /** Entries that are left. */
  left: number;
  #index = 0;
  readonly #slots: number;
  readonly #random: () => number;

  constructor(readonly shape: HptShape) {
    this.left = shape.entries;
    this.#slots = 2 ** (shape.order - 4);
    this.#random = random(shape.seed ?? shape.order);
  }

  /** Writes the blocks of the next `entries` entries, or somewhat more; all unless given. */
  write(out: FileWriter, little: boolean, entries = this.left): void {
    const stop = Math.max(0, this.left - entries);
    while (this.left > stop) {
      const run = this.#run();
      const gap = this.#gap(run);
      this.#block(out, little, run, Math.min(gap, MAX_RUN));
      // A longer gap takes blocks without entries.
      for (let rest = gap - MAX_RUN; rest > 0; rest -= MAX_RUN) {
        this.#block(out, little, 0, Math.min(rest, MAX_RUN));
      }
    }
  }

  #run(): number {
    const { runs } = this.shape;
    const wanted = runs === 'short' ? 2 + Math.floor(this.#random() * 7) : MEAN_RUN[runs];
    return Math.min(wanted, this.left);
  }

  /** Slots to the next block: gaps of all lengths that leave room for what comes; then the rest. */
  #gap(run: number): number {
    const left = this.left - run;
    const free = this.#slots - this.#index - run - left;
    if (left === 0) return free;
    const { runs } = this.shape;
    const mean = free / (1 + left / MEAN_RUN[runs]);
    const most = free - Math.ceil(left / LEAST_RUN[runs]);
    return Math.min(most, Math.max(1, Math.floor(this.#random() * 2 * mean)));
  }

  #block(out: FileWriter, little: boolean, run: number, gap: number): void {
    if (run > 0 || this.shape.covers !== false) {
      const { view } = out;
      const at = out.room(8 + 16 * run);
      view.setUint32(at, this.#index, little);
      view.setUint16(at + 4, run, little);
      view.setUint16(at + 6, this.shape.covers === false ? 0 : gap, little);
      for (let i = 0; i < run; i++) this.#entry(view, at + 8 + 16 * i, this.#index + i);
    }
    this.#index += run + gap;
    this.left -= run;
  }

  /** A valid entry: 1 TiB segment, page of 64 KiB, one in eight bolted. */
  #entry(view: DataView, at: number, slot: number): void {
    const mixed = Math.imul(slot ^ 0x5bd1e995, 0x9e3779b1);
    view.setUint32(at, 0x40000000 | (mixed & 0x00ffffff));
    view.setUint32(at + 4, (mixed & 0xfffff000) | (mixed & 0x700 ? 5 : 0x15));
    view.setUint32(at + 8, slot >>> 20);
    view.setUint32(at + 12, ((slot << 16) | 0x1190) >>> 0);
  }
}

/** Blocks of the kernel, headers little-endian, one shape after another. */
export function writeKernel(out: FileWriter, shapes: readonly HptShape[]): void {
  for (const shape of shapes) new HptBlocks(shape).write(out, true);
}

/** The payloads of `spapr/htab`: START, and a PART with all blocks. */
export function writeSection(out: FileWriter, shape: HptShape): void {
  out.put(Buffer.concat([u32(shape.order), u32(0)]));
  new HptBlocks(shape).write(out, false);
  out.put(Buffer.alloc(8));
}

/** How many bytes {@link writeKernel} writes of a shape, about. */
export function kernelBytes({ entries, runs }: HptShape): number {
  return Math.ceil(entries * (16 + 8 / MEAN_RUN[runs]));
}
