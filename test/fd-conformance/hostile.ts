import type { Bench, Entry } from './bench.js';
import type { Operation, Random } from './random.js';

/** Slots of the table of order 18 that a sequence begins with. */
const SLOTS = 2 ** 14;
const WRITER = 0;
const READER = 1;
const WHOLE = 2;
/** More than all of that table. */
const ALL = 1 << 20;

/** What a write is about to be: blocks, and how many bytes of them are claimed. */
interface Attempt {
  readonly bytes: Buffer;
  readonly count: number;
}

/**
 * Writes that are wrong in one way, each followed by a read of what it changed; at the end all of the
 * table is read. Everything comes from the seed, nothing from an answer.
 */
export class HostileWrites {
  readonly #random: Random;
  readonly #bench: Bench;

  constructor(random: Random, bench: Bench) {
    this.#random = random;
    this.#bench = bench;
  }

  /** @param count how many writes */
  *operations(count: number): Generator<Operation> {
    yield { op: 'open', fd: WRITER, flags: 2n, start: 0n };
    yield { op: 'open', fd: READER, flags: 0n, start: 0n };
    yield read(READER);
    yield read(READER);
    for (let i = 0; i < count; i++) {
      const { bytes, count: claimed } = this.#attempt(i);
      yield { op: 'write', fd: WRITER, bytes, count: claimed };
      yield read(READER);
    }
    yield { op: 'open', fd: WHOLE, flags: 0n, start: 0n };
    yield read(WHOLE);
  }

  /** The ways take turns. */
  #attempt(i: number): Attempt {
    const ways = [
      () => this.#beyond(),
      () => this.#wraps(),
      () => this.#tooLittle(),
      () => this.#length(),
      () => this.#withoutV(),
      () => this.#pageSize(),
      () => this.#segmentSize(),
      () => this.#partOfAHeader(),
      () => this.#chain(),
      () => this.#swapped(),
      () => this.#header(),
      () => this.#bits(),
      () => this.#noMemory(),
      () => whole(this.#sound()),
    ];
    return ways[i % ways.length]?.() ?? whole(this.#sound());
  }

  /** Around the end of the table, and far behind it. */
  #beyond(): Attempt {
    const random = this.#random;
    const nValid = random.below(4);
    const nInvalid = random.pick([0, 0, 1, 3, 65535]);
    const ends = [SLOTS - nValid - nInvalid, SLOTS - nValid, SLOTS, 2 ** 16, 2 ** 31, 2 ** 32 - 1];
    const index = Math.max(0, random.pick(ends) + random.below(3) - 1) % 2 ** 32;
    return whole(this.#bench.block(index, this.#entries(nValid), nInvalid));
  }

  /** The sum is 2^32 or a little more. */
  #wraps(): Attempt {
    const random = this.#random;
    const nValid = random.below(5);
    const nInvalid = random.pick([0, 1, 2, 300, 65535]);
    const index = 2 ** 32 - 1 - random.below(nValid + nInvalid + 1);
    return whole(this.#bench.block(index, this.#entries(nValid), nInvalid));
  }

  /** The header counts more entries than follow. */
  #tooLittle(): Attempt {
    const random = this.#random;
    const entries = this.#entries(1 + random.below(4));
    const bytes = this.#bench.block(this.#index(), entries, random.below(3));
    const claimed = entries.length + random.pick([1, 2, 255, 65535 - entries.length]);
    this.#u16(bytes, claimed, 4);
    return whole(bytes);
  }

  /** Any length up to a little more than the block has. */
  #length(): Attempt {
    const bytes = Buffer.concat([this.#sound(), Buffer.alloc(24, this.#random.pick([0, 0xff]))]);
    return { bytes, count: this.#random.below(bytes.length + 1) };
  }

  #withoutV(): Attempt {
    const random = this.#random;
    const entries = this.#entries(1 + random.below(5));
    const at = random.below(entries.length);
    const [dw0 = 0n, dw1 = 0n] = entries[at] ?? [];
    const low = random.pick([0n, 0x10n, 0x20n, 0x40n, 0x60n, 2n, 4n]);
    entries[at] = random.chance(3) ? [0n, 0n] : [(dw0 & ~0x7fn) | low, dw1];
    return whole(this.#bench.block(this.#index(), entries, random.below(3)));
  }

  /** L with any of the 256 LP values: few of them are page sizes. */
  #pageSize(): Attempt {
    const random = this.#random;
    const entries = this.#entries(1 + random.below(3));
    const at = random.below(entries.length);
    const [dw0 = 0n, dw1 = 0n] = entries[at] ?? [];
    const lp = BigInt(random.chance(2) ? random.below(256) : random.pick([0, 1, 3, 7, 8, 0x38]));
    entries[at] = [dw0 | 4n, (dw1 & ~0xff000n) | (lp << 12n)];
    return whole(this.#bench.block(this.#index(), entries));
  }

  #segmentSize(): Attempt {
    const random = this.#random;
    const entries = this.#entries(1 + random.below(3));
    const at = random.below(entries.length);
    const [dw0 = 0n, dw1 = 0n] = entries[at] ?? [];
    entries[at] = [dw0 | (BigInt(2 + random.below(2)) << 62n), dw1];
    return whole(this.#bench.block(this.#index(), entries));
  }

  /** 0 to 7 bytes, alone or behind a block. */
  #partOfAHeader(): Attempt {
    const random = this.#random;
    const part = this.#sound().subarray(0, random.below(8));
    if (random.chance(2)) return whole(part);
    const before = random.chance(2) ? this.#sound() : this.#bench.block(this.#index(), [], 1);
    return whole(Buffer.concat([before, part]));
  }

  /** Blocks of nothing, of empty slots, with entries, that overlap. */
  #chain(): Attempt {
    const random = this.#random;
    const blocks = Array.from({ length: 2 + random.below(4) }, () => {
      const index = random.chance(6) ? random.pick([0, SLOTS, SLOTS - 1]) : this.#index();
      const nValid = random.chance(3) ? 1 + random.below(3) : 0;
      return this.#bench.block(index, this.#entries(nValid), random.below(6));
    });
    return whole(Buffer.concat(blocks));
  }

  /** The header in the other byte order. */
  #swapped(): Attempt {
    const bytes = this.#sound();
    bytes.subarray(0, 4).swap32();
    bytes.subarray(4, 8).swap16();
    return whole(bytes);
  }

  /** A header of random words in front of some entries. */
  #header(): Attempt {
    const random = this.#random;
    const bytes = this.#sound();
    const words = [random.next(), random.below(SLOTS), random.below(64), 0];
    bytes.writeUInt32LE(random.pick(words), 0);
    bytes.writeUInt16LE(random.pick([0, 1, 2, random.below(65536)]), 4);
    bytes.writeUInt16LE(random.pick([0, 1, 2, random.below(65536)]), 6);
    return whole(bytes);
  }

  #bits(): Attempt {
    const random = this.#random;
    const bytes = this.#sound();
    for (let i = random.below(4); i >= 0; i--) {
      const at = random.below(bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    }
    return whole(bytes);
  }

  /** More bytes are claimed than there is memory. */
  #noMemory(): Attempt {
    const random = this.#random;
    const bytes = this.#sound();
    const count = bytes.length + random.pick([0, 1, 8, 24, 4096]);
    return { bytes: bytes.subarray(0, random.below(bytes.length + 1)), count };
  }

  #sound(): Buffer {
    const random = this.#random;
    return this.#bench.block(this.#index(), this.#entries(1 + random.below(4)), random.below(4));
  }

  /** In few places, so that writes meet. */
  #index(): number {
    return this.#random.pick([0, 64, 4096, SLOTS - 64]) + this.#random.below(40);
  }

  #entries(count: number): Entry[] {
    return Array.from({ length: count }, () => {
      const random = this.#random;
      const dw0 = (random.bits64() & 0x0000ffffffffff80n) | random.pick([1n, 0x11n, 3n, 0x13n]);
      const dw1 = (BigInt(random.below(0x400)) << 12n) | random.pick([0x192n, 0x190n, 0x12n]);
      return [dw0, dw1];
    });
  }

  #u16(bytes: Buffer, value: number, at: number): void {
    if (this.#bench.little) bytes.writeUInt16LE(value, at);
    else bytes.writeUInt16BE(value, at);
  }
}

const whole = (bytes: Buffer): Attempt => ({ bytes, count: bytes.length });

const read = (fd: number): Operation => ({ op: 'read', fd, length: ALL, mapped: ALL });
