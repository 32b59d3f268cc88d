import { UnsupportedError } from '../errors.js';
import { BlockBatch, HEADER_BYTES, MAX_BLOCK_BYTES, MAX_RUN } from './block.js';
import { HPTE_BYTES } from './order.js';

/**
 * Gathers entries and empty slots into blocks by the rules of the kernel's read side
 * (arch/powerpc/kvm/book3s_64_mmu_hv.c kvm_htab_read): a block goes on while slots are contiguous,
 * no entry follows an empty slot, and neither run exceeds 65535.
 *
 * Blocks are built in one buffer with big-endian headers; `take` hands the finished ones over.
 */
export class RunBuilder {
  readonly #buffer = new Uint8Array(Buffer.allocUnsafeSlow(3 * MAX_BLOCK_BYTES).buffer);
  readonly #view = new DataView(this.#buffer.buffer);
  #length = 0;
  /** Where the open block begins, if one is open. */
  #open = -1;
  #nValid = 0;
  #nInvalid = 0;
  /** The slot after the open block. */
  #next = 0;
  #closed = 0;
  #emitted = 0;

  /** Whether it is time to take what is finished. */
  get full(): boolean {
    return this.#length > MAX_BLOCK_BYTES && this.#closed > 0;
  }

  /** One entry at slot `index`: 16 bytes of `bytes` from `at`. */
  valid(index: number, bytes: Uint8Array, at: number): void {
    if (this.#open < 0 || index !== this.#next || this.#nInvalid > 0 || this.#nValid === MAX_RUN) {
      this.#begin(index);
    }
    // Copied by hand: for 16 bytes, a call costs more than the loop.
    let to = this.#length;
    for (let from = at; from < at + HPTE_BYTES; from++) this.#buffer[to++] = bytes[from] ?? 0;
    this.#length = to;
    this.#nValid++;
    this.#next++;
  }

  /** `count` empty slots from `index` on. The gap of a whole table fits the buffer beside a block. */
  invalid(index: number, count: number): void {
    for (let left = count, at = index; left > 0; ) {
      if (this.#open < 0 || at !== this.#next || this.#nInvalid === MAX_RUN) this.#begin(at);
      const step = Math.min(left, MAX_RUN - this.#nInvalid);
      this.#nInvalid += step;
      this.#next += step;
      at += step;
      left -= step;
    }
  }

  #begin(index: number): void {
    this.close();
    if (index > 0xffffffff) {
      throw new UnsupportedError(
        'E_UNSUPPORTED',
        'a block cannot address this slot: its index has 32 bits (orders above 36)',
        { actual: `slot ${index}` },
      );
    }
    this.#open = this.#length;
    this.#view.setUint32(this.#length, index);
    this.#length += HEADER_BYTES;
    this.#next = index;
  }

  /** Ends the open block, so that nothing joins it. */
  close(): void {
    if (this.#open < 0) return;
    this.#view.setUint16(this.#open + 4, this.#nValid);
    this.#view.setUint16(this.#open + 6, this.#nInvalid);
    this.#open = -1;
    this.#nValid = 0;
    this.#nInvalid = 0;
    this.#closed++;
  }

  /** The finished blocks as a copy, or undefined when there are none. */
  take(): BlockBatch | undefined {
    if (this.#closed === 0) return undefined;
    const end = this.#open < 0 ? this.#length : this.#open;
    const batch = new BlockBatch(this.#buffer.slice(0, end), 'big', this.#closed, this.#emitted);
    this.#buffer.copyWithin(0, end, this.#length);
    this.#length -= end;
    if (this.#open >= 0) this.#open = 0;
    this.#closed = 0;
    this.#emitted += end;
    return batch;
  }
}
