import { encodeBlock } from '../../src/htab/block.js';
import type { BlocksWritten, HtabDescriptor } from '../../src/index.js';

type Block = readonly [index: number, nValid: number, nInvalid: number];

/** Blocks whose entries are valid and numbered by their slot. */
export function blocks(...list: readonly Block[]): Buffer {
  return Buffer.concat(
    list.map(([index, nValid, nInvalid]) => {
      const entries = Buffer.alloc(16 * nValid);
      for (let i = 0; i < nValid; i++) entries.writeUInt8(0x41, 16 * i + 7);
      for (let i = 0; i < nValid; i++) entries.writeUInt32BE(index + i, 16 * i + 8);
      return encodeBlock({ index, nInvalid, entries }, 'little');
    }),
  );
}

/** An fd that gives what it was told, one read after another, and then nothing. */
export class Scripted implements HtabDescriptor {
  readonly backend = 'software';
  readonly byteOrder = 'little';
  readonly asked: number[] = [];
  readonly written: Uint8Array[] = [];
  closed = 0;

  constructor(
    readonly reads: Uint8Array[],
    readonly refuse: { at: number; errno: string } = { at: Number.POSITIVE_INFINITY, errno: '' },
  ) {}

  async read(length: number): Promise<Uint8Array> {
    this.asked.push(length);
    return this.reads.shift() ?? new Uint8Array();
  }

  async write(bytes: Uint8Array): Promise<number> {
    this.written.push(Uint8Array.from(bytes));
    return bytes.length;
  }

  async writeBlocks(bytes: Uint8Array): Promise<BlocksWritten> {
    let done = 0;
    for (let at = 0; at < bytes.length; done++) {
      const view = new DataView(bytes.buffer, bytes.byteOffset + at);
      const end = at + 8 + 16 * view.getUint16(4, true);
      if (this.written.length === this.refuse.at) {
        return { blocks: done, bytes: at, errno: this.refuse.errno };
      }
      this.written.push(Uint8Array.from(bytes.subarray(at, end)));
      at = end;
    }
    return { blocks: done, bytes: bytes.length, errno: undefined };
  }

  async close(): Promise<void> {
    this.closed++;
  }
}
