import { createHash, type Hash } from 'node:crypto';
import type { ByteSource, HtabItem, HtabItems } from 'spapr-htab';
import { MemoryFile } from '../../src/memory/memory-file.js';
import type { PlainBlock } from '../helpers/reference.js';

export const digest = (bytes: Uint8Array): string =>
  createHash('sha1').update(bytes).digest('hex').slice(0, 16);

/** Text of plain data that holds 64-bit values, bytes and whatever else results have. */
export function textOf(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) => {
    if (typeof inner === 'bigint') return `${inner}n`;
    if (inner instanceof Uint8Array) return `bytes ${digest(inner)}`;
    if (inner instanceof Error) return `${inner.name} ${inner.message}`;
    return inner;
  });
}

/** What items say, however their blocks are batched. */
export class ItemLog {
  readonly lines: string[] = [];
  readonly offsets: number[] = [];
  blocks = 0;
  valid = 0;
  #hash: Hash | undefined;

  add(item: HtabItem): void {
    if (item.type === 'blocks') {
      for (const { index, nInvalid, entries } of item.batch) this.block(index, nInvalid, entries);
      return;
    }
    this.#endBlocks();
    this.lines.push(item.type === 'order' ? `order ${item.order}` : item.type);
    this.offsets.push(item.offset);
  }

  block(index: number, nInvalid: number, entries: Uint8Array): void {
    this.#hash ??= createHash('sha1');
    this.#hash.update(`${index} ${entries.length} ${nInvalid} `).update(entries);
    this.blocks++;
    this.valid += entries.length / 16;
  }

  plain(blocks: readonly PlainBlock[]): void {
    for (const { index, nInvalid, entries } of blocks) this.block(index, nInvalid, entries);
  }

  #endBlocks(): void {
    if (this.#hash === undefined) return;
    this.lines.push(this.#hash.digest('hex').slice(0, 16));
    this.#hash = undefined;
  }

  /** Types and contents. Positions are not in it. */
  text(): string {
    this.#endBlocks();
    return this.lines.join(' ');
  }

  /** What kind of table that is. */
  kind(): string {
    const log = (n: number): number => Math.ceil(Math.log2(n + 1));
    return `${log(this.lines.length)} ${log(this.blocks)} ${log(this.valid)} ${new Set(this.lines).size > 5}`;
  }
}

/** The same items, written down as they pass. */
export async function* logged(items: HtabItems, log: ItemLog): AsyncGenerator<HtabItem> {
  for await (const item of items) {
    log.add(item);
    yield item;
  }
}

export async function gathered(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const piece of pieces) copies.push(Buffer.from(piece));
  return Buffer.concat(copies);
}

/** Bytes of a source from `from` on, at most so many. */
export async function readSome(source: ByteSource, from: number, most: number): Promise<Buffer> {
  const bytes = Buffer.alloc(most);
  let length = 0;
  while (length < most) {
    const count = await source.read(bytes.subarray(length), from + length);
    if (count === 0) break;
    length += count;
  }
  return bytes.subarray(0, length);
}

/** A sparse file in memory of any size, whose content has a digest. */
export class DigestFile extends MemoryFile {
  digest(): string {
    const hash = createHash('sha1').update(`${this.size}`);
    for (const [position, bytes] of [...this.chunks()].sort(([a], [b]) => a - b)) {
      if (!Buffer.alloc(bytes.length).equals(bytes)) hash.update(`${position} `).update(bytes);
    }
    return hash.digest('hex').slice(0, 16);
  }
}
