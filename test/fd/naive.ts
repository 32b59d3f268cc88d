import { block, type Entry } from './software-support.js';

const MARK = 1n << 62n;
const VALID = 1n;
const ABSENT = 0x20n;
const RC = 0x180n;

export interface NaiveReader {
  index: bigint;
  first: boolean;
  readonly bolted: boolean;
}

/**
 * The HTAB fd again, slot by slot over plain arrays: what the sparse one is compared with. Host
 * POWER8 or POWER9, memory as large as `memory` with pages of 16 MiB.
 */
export class NaiveHtab {
  readers = 0;
  slots = 0;
  #order = 0;
  #v: bigint[] = [];
  #g: bigint[] = [];
  /** R and C in the processor's copy. */
  #hw: bigint[] = [];

  constructor(
    readonly power9: boolean,
    readonly memory: bigint,
  ) {}

  allocate(order: number): void {
    const slots = 2 ** (order - 4);
    if (order !== this.#order) this.#g = Array<bigint>(slots).fill(0n);
    this.#order = order;
    this.slots = slots;
    this.#v = Array<bigint>(slots).fill(0n);
    this.#hw = Array<bigint>(slots).fill(0n);
  }

  touch(slot: number, store: boolean): void {
    const v = this.#v[slot] ?? 0n;
    if ((v & (VALID | ABSENT)) === 0n || (v & ABSENT) !== 0n) return;
    this.#hw[slot] = (this.#hw[slot] ?? 0n) | (store ? RC : 0x100n);
  }

  #dirty(i: number): boolean {
    const g = this.#g[i] ?? 0n;
    if ((g & MARK) !== 0n) return true;
    return ((this.#v[i] ?? 0n) & VALID) !== 0n && ((this.#hw[i] ?? 0n) & ~g & RC) !== 0n;
  }

  /** The slot as an entry or as nothing, if that is what is wanted; its mark goes. */
  #record(i: number, reader: NaiveReader, want: boolean): Entry | undefined {
    if (!reader.first && !this.#dirty(i)) return undefined;
    let v = this.#v[i] ?? 0n;
    const valid = (v & (VALID | ABSENT)) !== 0n && (!reader.bolted || (v & 0x10n) !== 0n);
    if (valid !== want) return undefined;
    if (this.#dirty(i)) {
      const seen = (v & VALID) !== 0n ? (this.#hw[i] ?? 0n) & RC : 0n;
      this.#g[i] = ((this.#g[i] ?? 0n) | seen) & ~MARK;
    }
    v = (v & ~ABSENT) | VALID | 0x40n;
    return [v, this.#g[i] ?? 0n];
  }

  read(reader: NaiveReader, count: number, mapped: number): Buffer | 'EFAULT' {
    const out: Buffer[] = [];
    let nb = 0;
    let i = reader.index;
    const end = BigInt(this.slots);
    while (nb + 24 < count) {
      while (!reader.first && i < end && !this.#dirty(Number(i))) i++;
      const index = i;
      const entries: Entry[] = [];
      while (i < end && entries.length < 65535 && nb + 8 + 16 * entries.length + 16 < count) {
        const entry = this.#record(Number(i), reader, true);
        if (entry === undefined) break;
        entries.push(entry);
        if (nb + 8 + 16 * entries.length > mapped) return 'EFAULT';
        i++;
      }
      let nInvalid = 0;
      while (i < end && nInvalid < 65535 && this.#record(Number(i), reader, false)) {
        nInvalid++;
        i++;
      }
      if (entries.length > 0 || nInvalid > 0) {
        if (nb + 8 > mapped) return 'EFAULT';
        out.push(block(Number(index), entries, nInvalid));
        nb += 8 + 16 * entries.length;
      }
      if (i >= end) {
        i = 0n;
        reader.first = false;
        break;
      }
    }
    reader.index = i;
    return Buffer.concat(out);
  }

  #remove(i: number): void {
    if (((this.#v[i] ?? 0n) & (VALID | ABSENT)) === 0n) return;
    this.#v[i] = 0n;
    if (this.readers > 0) this.#g[i] = (this.#g[i] ?? 0n) | MARK;
  }

  #enter(i: number, v: bigint, r: bigint, shift: bigint): boolean {
    if (v >> 63n) return false;
    const size = 1n << shift;
    const address = r & 0x0ffffffffffff000n & ~(size - 1n);
    let stored = v & ~0x61n;
    const inMemory = address < this.memory;
    if (inMemory && size > 0x10000n && this.memory % size !== 0n) return false;
    if (inMemory && size > 0x1000000n) return false;
    stored |= inMemory ? VALID : ABSENT;
    if (this.power9) stored = (stored & 0xfffffffffffffn) | (v & (3n << 62n));
    this.#v[i] = stored;
    this.#g[i] = (r & ~MARK) | (this.readers > 0 ? MARK : 0n);
    this.#hw[i] = 0n;
    return true;
  }

  /** With the kernel's mistakes, or without. `memory` is what follows the buffer's address. */
  write(memory: Buffer, count: number, kernel: boolean): number | string {
    let nb = 0;
    let at = 0;
    while (nb + 8 <= count) {
      if (at + 8 > memory.length) return 'EFAULT';
      const index = memory.readUInt32LE(at);
      const nValid = memory.readUInt16LE(at + 4);
      const nInvalid = memory.readUInt16LE(at + 6);
      if (nb + (kernel ? 0 : 8) + 16 * nValid > count) return nb;
      nb += 8;
      at += 8;
      if (index >= this.slots || index + nValid + nInvalid > this.slots) return 'EINVAL';
      for (let j = 0; j < nValid; j++) {
        const entry = at + 16 * j;
        if (entry + 16 > memory.length) return 'EFAULT';
        const v = memory.readBigUInt64BE(entry);
        const r = memory.readBigUInt64BE(entry + 8);
        const shift = pageShift(v, r);
        if ((v & 1n) === 0n || shift === undefined) return 'EINVAL';
        nb += 16;
        this.#remove(index + j);
        if (!this.#enter(index + j, v, r, shift)) return 'EIO';
      }
      for (let j = 0; j < nInvalid; j++) this.#remove(index + nValid + j);
      if (!kernel) at += 16 * nValid;
    }
    return nb;
  }
}

/** log2 of the size of the page, by L and LP. */
function pageShift(v: bigint, r: bigint): bigint | undefined {
  if ((v & 4n) === 0n) return 12n;
  const lp = (r >> 12n) & 0xffn;
  if ((lp & 0xfn) === 1n || (lp & 0xfn) === 7n) return 16n;
  if (lp === 0n || lp === 8n || lp === 0x38n) return 24n;
  return lp === 3n ? 34n : undefined;
}
