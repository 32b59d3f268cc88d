import assert from 'node:assert/strict';
import type { PassesOptions } from '../../src/index.js';
import { block, type Entry } from '../helpers/entries.js';
import type { Backend, Fd, OpenArguments, Vm } from './backend.js';

export { type Entry, R, run, V } from '../helpers/entries.js';

/** What a VM has unless it is said. */
const MEMORY = { base: 0n, size: 64n << 20n, huge: true };

export const READ = {} as const;
export const WRITE = { flags: 2n } as const;
export const BOLTED = { flags: 1n } as const;

/** What a check works with: VMs that are closed behind it, and blocks as text. */
export class Bench {
  readonly #open: { close(): Promise<void> }[] = [];
  readonly little: boolean;

  constructor(readonly backend: Backend) {
    this.little = backend.byteOrder === 'little';
  }

  /** A VM with an HPT of that order and 64 MiB of memory. */
  async vm(order: number): Promise<TestVm> {
    const vm = await this.bareVm();
    assert.equal((await vm.vm.allocate(order)).value, order, 'ALLOCATE_HTAB');
    await vm.vm.setMemory([MEMORY]);
    return vm;
  }

  /** A VM with nothing. */
  async bareVm(): Promise<TestVm> {
    const vm = await this.backend.createVm();
    this.#open.push(vm);
    return new TestVm(this, vm);
  }

  own(fd: Fd): void {
    this.#open.push(fd);
  }

  async close(): Promise<void> {
    for (const open of this.#open.splice(0).reverse()) await open.close();
  }

  /** One block as bytes. */
  block(index: number, entries: readonly Entry[], nInvalid = 0): Buffer {
    return block(index, entries, nInvalid, this.little);
  }

  /** `[100 v2 i5] 41:1192 c1:1192 [107 v0 i1]`: blocks with the entries in hexadecimal. */
  text(bytes: Uint8Array): string {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const words: string[] = [];
    let at = 0;
    for (; at + 8 <= bytes.length; ) {
      const nValid = view.getUint16(at + 4, this.little);
      const nInvalid = view.getUint16(at + 6, this.little);
      words.push(`[${view.getUint32(at, this.little)} v${nValid} i${nInvalid}]`);
      at += 8;
      for (let i = 0; i < nValid; i++, at += 16) {
        assert.ok(at + 16 <= bytes.length, 'a read never ends within a block');
        const hex = (to: number): string => view.getBigUint64(to).toString(16);
        words.push(`${hex(at)}:${hex(at + 8)}`);
      }
    }
    assert.equal(at, bytes.length, 'a read never ends within a block');
    return words.join(' ');
  }
}

/** A VM whose fds answer in words. */
export class TestVm {
  constructor(
    readonly bench: Bench,
    readonly vm: Vm,
  ) {}

  async open(options: OpenArguments = {}): Promise<TestFd> {
    const { value, errno } = await this.vm.open(options);
    assert.equal(errno, undefined, 'KVM_PPC_GET_HTAB_FD');
    assert.ok(value);
    this.bench.own(value);
    return new TestFd(this.bench, value);
  }
}

export class TestFd {
  constructor(
    readonly bench: Bench,
    readonly fd: Fd,
  ) {}

  /** The passes that there are: headers, one text a pass. */
  async passes(options: PassesOptions): Promise<string[]> {
    const texts: string[] = [];
    for await (const pass of this.fd.htabFd.passes(options)) {
      const pieces: Buffer[] = [];
      for await (const batch of pass) pieces.push(Buffer.from(batch.bytes));
      texts.push(this.bench.text(Buffer.concat(pieces)).replace(/ [0-9a-f]+:[0-9a-f]+/g, ''));
    }
    return texts;
  }

  /** Blocks as text, '' for a read of nothing, or the name of the errno. */
  async read(length: number, mapped?: number): Promise<string> {
    const { value, errno } = await this.fd.read(length, mapped);
    return value === undefined ? (errno ?? '') : this.bench.text(value);
  }

  /** Only the headers. */
  async headers(length: number): Promise<string> {
    return (await this.read(length)).replace(/ [0-9a-f]+:[0-9a-f]+/g, '');
  }

  async bytes(length: number): Promise<Uint8Array> {
    const { value, errno } = await this.fd.read(length);
    assert.equal(errno, undefined);
    return value ?? new Uint8Array();
  }

  /** Reads until nothing comes: how many reads that took, and what they gave. */
  async drain(length: number): Promise<{ reads: number; bytes: Buffer }> {
    const pieces: Uint8Array[] = [];
    for (;;) {
      const piece = await this.bytes(length);
      if (piece.length === 0) return { reads: pieces.length, bytes: Buffer.concat(pieces) };
      pieces.push(piece);
    }
  }

  /** What the write returned, or the name of the errno. */
  async write(bytes: Uint8Array, count?: number): Promise<number | string> {
    const { value, errno } = await this.fd.write(bytes, count);
    return value ?? errno ?? '';
  }

  /** One block. */
  block(index: number, entries: readonly Entry[], nInvalid = 0): Promise<number | string> {
    return this.write(this.bench.block(index, entries, nInvalid));
  }

  /** One entry, which must be taken. */
  async put(index: number, dw0: bigint, dw1: bigint): Promise<void> {
    assert.equal(await this.block(index, [[dw0, dw1]]), 24, `entry at ${index}`);
  }

  close(): Promise<void> {
    return this.fd.close();
  }
}
