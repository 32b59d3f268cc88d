import { createHash } from 'node:crypto';
import type { Answer, Backend, Fd, MemorySlot } from './backend.js';
import { Bench, type Entry } from './bench.js';
import { HostileWrites } from './hostile.js';

/** One call. Everything in it comes from the seed, nothing from an answer. */
export type Operation =
  | { readonly op: 'allocate'; readonly order: number }
  /** Other memory slots: a layout of {@link LAYOUTS}. */
  | { readonly op: 'memory'; readonly layout: number }
  | { readonly op: 'radix'; readonly radix: boolean }
  /** `fd` is the place in the list of fds that it takes; what was there is closed. */
  | { readonly op: 'open'; readonly fd: number; readonly flags: bigint; readonly start: bigint }
  | { readonly op: 'close'; readonly fd: number }
  | { readonly op: 'read'; readonly fd: number; readonly length: number; readonly mapped: number }
  | { readonly op: 'write'; readonly fd: number; readonly bytes: Buffer; readonly count: number };

/** Fds that are open at a time: readers and writers. */
const FDS = 5;
const MIB = 1n << 20n;
/** Memory slots: as usual; none; in small pages; sizes and places that large pages do not fit. */
const LAYOUTS: readonly (readonly MemorySlot[])[] = [
  [{ base: 0n, size: 64n * MIB, huge: true }],
  [],
  [{ base: 0n, size: 64n * MIB, huge: false }],
  [{ base: 0n, size: 18n * MIB, huge: true }],
  [
    { base: 0n, size: MIB, huge: true },
    { base: 16n * MIB, size: 16n * MIB, huge: true },
  ],
  [{ base: 2n * MIB, size: 16n * MIB, huge: true }],
];

/** xorshift32: the same numbers on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  below(n: number): number {
    return this.next() % n;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }

  bits64(): bigint {
    return (BigInt(this.next()) << 32n) | BigInt(this.next());
  }
}

/** LP bits: the page sizes that KVM knows, and some that it does not. */
const LPS = [0x00n, 0x01n, 0x11n, 0xf1n, 0x07n, 0x37n, 0x08n, 0x38n, 0x03n, 0xffn, 0x02n, 0x13n];

/** Operations as managers, testers and the careless make them. */
export class Sequence {
  readonly #random: Random;
  readonly #bench: Bench;
  #slots = 2 ** 14;
  /** Fds that answer: neither closed nor asked for with flags that are none. */
  readonly #open = new Set<number>();
  #radix = false;

  constructor(seed: number, bench: Bench) {
    this.#random = new Random(seed);
    this.#bench = bench;
  }

  *operations(count: number): Generator<Operation> {
    for (let fd = 0; fd < FDS; fd++) yield this.#opened(fd);
    for (let i = 0; i < count; i++) yield this.#operation();
  }

  #operation(): Operation {
    const random = this.#random;
    const fd = random.below(FDS);
    // Now and then, one that is closed is tried nevertheless.
    if (!this.#open.has(fd) && !random.chance(10)) return this.#opened(fd);
    const kind = random.below(200);
    // The first two are written; the others are read.
    if (kind < 180) {
      const other = random.chance(60);
      return fd < 2 !== other ? this.#write(fd) : this.#read(fd);
    }
    if (kind < 188) return this.#opened(fd);
    if (kind < 192) {
      this.#open.delete(fd);
      return { op: 'close', fd };
    }
    if (kind < 195) return { op: 'memory', layout: random.below(LAYOUTS.length) };
    if (kind < 197 || this.#radix) return this.#allocate();
    this.#radix = random.chance(2);
    return { op: 'radix', radix: this.#radix };
  }

  /**
   * Mostly the order that it has. It ends radix mode. Never 0: Linux 6.1 would clear an HPT that is not
   * there.
   */
  #allocate(): Operation {
    const random = this.#random;
    const order = random.chance(3) ? 18 + random.below(2) : Math.log2(this.#slots) + 4;
    this.#slots = 2 ** (order - 4);
    this.#radix = false;
    if (random.chance(20)) return { op: 'allocate', order: random.pick([17, 47, 64]) };
    return { op: 'allocate', order };
  }

  #opened(fd: number): Operation {
    const random = this.#random;
    const write = fd < 2 ? !random.chance(40) : random.chance(20);
    let flags = BigInt((write ? 2 : 0) | (random.chance(4) ? 1 : 0));
    if (random.chance(25)) flags |= 1n << BigInt(random.below(64));
    if (flags < 4n) this.#open.add(fd);
    else this.#open.delete(fd);
    const start = random.chance(3)
      ? BigInt(this.#index())
      : random.chance(20)
        ? random.bits64()
        : 0n;
    return { op: 'open', fd, flags, start };
  }

  /** Slots in few places, so that operations meet. */
  #index(): number {
    const random = this.#random;
    if (random.chance(30)) return random.next();
    if (random.chance(20)) return this.#slots - random.below(6);
    if (random.chance(10)) return random.below(this.#slots);
    return random.pick([0, 64, 1000, 5000, 16000]) + random.below(40);
  }

  #read(fd: number): Operation {
    const random = this.#random;
    const lengths = [random.below(200), 25 + random.below(300), 2048, 4096, 65536, 1 << 20];
    const length = random.pick(lengths);
    // Now and then, a buffer that is not all there.
    const mapped = random.chance(40) ? random.below(length + 1) : length;
    return { op: 'read', fd, length, mapped };
  }

  #write(fd: number): Operation {
    const random = this.#random;
    const blocks = Array.from({ length: random.chance(6) ? 1 + random.below(4) : 1 }, () =>
      this.#block(),
    );
    const bytes = Buffer.concat(blocks);
    if (random.chance(12)) {
      const stray = random.below(24);
      const tail = Buffer.alloc(stray, random.pick([0, 0, 0xff, 0x41]));
      return { op: 'write', fd, bytes: Buffer.concat([bytes, tail]), count: bytes.length + stray };
    }
    // Fewer bytes than the block has, and more than there are.
    if (random.chance(15)) return { op: 'write', fd, bytes, count: random.below(bytes.length + 1) };
    if (random.chance(40)) {
      return { op: 'write', fd, bytes, count: bytes.length + 8 + random.below(64) };
    }
    return { op: 'write', fd, bytes, count: bytes.length };
  }

  #block(): Buffer {
    const random = this.#random;
    const nValid = random.chance(3)
      ? 0
      : random.chance(30)
        ? 100 + random.below(300)
        : 1 + random.below(6);
    const nInvalid = random.chance(3) ? random.below(random.chance(20) ? 20000 : 12) : 0;
    const entries = Array.from({ length: nValid }, () => this.#entry());
    return this.#bench.block(this.#index(), entries, nInvalid);
  }

  #entry(): Entry {
    const random = this.#random;
    let dw0 = (random.bits64() & 0x0fffffffffffff80n) | 1n;
    let dw1 = (BigInt(random.below(random.chance(4) ? 0x4000 : 0x400)) << 12n) | 0x12n;
    if (random.chance(4)) dw0 |= 1n << 62n;
    if (random.chance(80)) dw0 |= 1n << 63n;
    if (random.chance(80)) dw0 &= ~1n;
    if (random.chance(3)) dw0 |= 0x10n;
    if (random.chance(4)) dw0 |= 2n;
    if (random.chance(8)) dw0 |= BigInt(random.below(8)) << 4n;
    dw1 |= BigInt(random.below(1024)) & 0x1efn;
    if (random.chance(6)) dw1 |= random.bits64() & 0xf8fffffff0000000n;
    if (random.chance(6)) dw1 ^= 1n << BigInt(random.below(64));
    if (random.chance(5)) {
      dw0 |= 4n;
      dw1 = (dw1 & ~0xff000n) | (random.pick(LPS) << 12n);
    }
    return [dw0, dw1];
  }
}

/** What an operation gave, short enough to keep: the errno, a count, or the bytes or their hash. */
export function answerText(answer: Answer<unknown>): string {
  if (answer.errno !== undefined) return answer.errno;
  const { value } = answer;
  if (!(value instanceof Uint8Array)) return String(value);
  if (value.length <= 64) return Buffer.from(value).toString('hex');
  return `${value.length}:${createHash('sha256').update(value).digest('hex').slice(0, 16)}`;
}

/** Operations of every kind, or writes that are wrong. */
export type SequenceKind = 'operations' | 'hostile writes';

export interface SequencePlan {
  readonly kind: SequenceKind;
  readonly seed: number;
  /** Operations, or writes. */
  readonly length: number;
}

function operationsOf({ kind, seed, length }: SequencePlan, bench: Bench): Generator<Operation> {
  if (kind === 'operations') return new Sequence(seed, bench).operations(length);
  return new HostileWrites(new Random(seed), bench).operations(length);
}

/** Runs a sequence; one answer for each operation. */
export async function runSequence(
  backend: Backend,
  plan: SequencePlan,
  visit: (operation: Operation, answer: string) => void,
): Promise<void> {
  const bench = new Bench(backend);
  const fds: (Fd | undefined)[] = [];
  try {
    const { vm } = await bench.vm(18);
    for (const operation of operationsOf(plan, bench)) {
      visit(operation, answerText(await perform(operation)));
    }

    async function perform(operation: Operation): Promise<Answer<unknown>> {
      const closed: Answer<unknown> = { errno: 'closed' };
      switch (operation.op) {
        case 'allocate':
          return vm.allocate(operation.order);
        case 'memory':
          await vm.setMemory(LAYOUTS[operation.layout] ?? []);
          return { value: 'set' };
        case 'radix':
          return vm.setRadix(operation.radix);
      }
      const fd = fds[operation.fd];
      switch (operation.op) {
        case 'open': {
          await fd?.close();
          const { flags, start } = operation;
          const opened = await vm.open({ flags, startIndex: start });
          fds[operation.fd] = opened.value;
          return opened.errno === undefined ? { value: 'open' } : opened;
        }
        case 'close':
          await fd?.close();
          fds[operation.fd] = undefined;
          return { value: 'closed' };
        case 'read':
          return fd?.read(operation.length, operation.mapped) ?? closed;
        case 'write':
          return fd?.write(operation.bytes, operation.count) ?? closed;
      }
    }
  } finally {
    for (const fd of fds) await fd?.close();
    await bench.close();
  }
}

/** An operation in one line, for what failed. */
export function operationText(operation: Operation): string {
  switch (operation.op) {
    case 'allocate':
      return `allocate order ${operation.order}`;
    case 'memory':
      return `memory slots ${operation.layout}`;
    case 'radix':
      return `radix ${operation.radix}`;
    case 'open':
      return `open ${operation.fd}: flags ${operation.flags}, start ${operation.start}`;
    case 'close':
      return `close ${operation.fd}`;
    case 'read':
      return `read ${operation.fd}: ${operation.length} bytes, ${operation.mapped} mapped`;
    case 'write': {
      const { fd, bytes, count } = operation;
      return `write ${fd}: ${count} of ${bytes.length} bytes ${bytes.subarray(0, 256).toString('hex')}`;
    }
  }
}
