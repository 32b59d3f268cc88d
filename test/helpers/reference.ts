/**
 * A second reading of the formats, as plain as can be, to compare with: whole buffers, one block
 * at a time, no code of the package.
 */
export interface PlainBlock {
  readonly index: number;
  readonly entries: Buffer;
  readonly nInvalid: number;
}

export function plainKernel(bytes: Buffer, little: boolean): PlainBlock[] {
  const blocks: PlainBlock[] = [];
  for (let at = 0; at < bytes.length; ) {
    const index = little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
    const nValid = little ? bytes.readUInt16LE(at + 4) : bytes.readUInt16BE(at + 4);
    const nInvalid = little ? bytes.readUInt16LE(at + 6) : bytes.readUInt16BE(at + 6);
    const entries = bytes.subarray(at + 8, at + 8 + 16 * nValid);
    blocks.push({ index, entries, nInvalid });
    at += 8 + 16 * nValid;
  }
  return blocks;
}

/** Payloads one after another: the order (null: no HPT) and the blocks of each PART or END. */
export function plainSection(bytes: Buffer): { order: number | null; parts: PlainBlock[][] } {
  let order: number | null = null;
  const parts: PlainBlock[][] = [];
  for (let at = 0; at < bytes.length; ) {
    const word = bytes.readUInt32BE(at);
    at += 4;
    if (word === 0xffffffff) continue;
    if (word !== 0) {
      order = word;
      continue;
    }
    const blocks: PlainBlock[] = [];
    for (; !bytes.subarray(at, at + 8).equals(Buffer.alloc(8)); ) {
      const nValid = bytes.readUInt16BE(at + 4);
      const entries = bytes.subarray(at + 8, at + 8 + 16 * nValid);
      const nInvalid = bytes.readUInt16BE(at + 6);
      blocks.push({ index: bytes.readUInt32BE(at), entries, nInvalid });
      at += 8 + 16 * nValid;
    }
    at += 8;
    parts.push(blocks);
  }
  return { order, parts };
}

/** The flat table after all blocks. */
export function plainTable(order: number, blocks: readonly PlainBlock[]): Buffer {
  const table = Buffer.alloc(2 ** order);
  for (const { index, entries, nInvalid } of blocks) {
    entries.copy(table, index * 16);
    const after = index * 16 + entries.length;
    table.fill(0, after, after + nInvalid * 16);
  }
  return table;
}

export function plainEncode(blocks: readonly PlainBlock[], little: boolean): Buffer {
  return Buffer.concat(
    blocks.map(({ index, entries, nInvalid }) => {
      const header = Buffer.alloc(8);
      if (little) {
        header.writeUInt32LE(index);
        header.writeUInt16LE(entries.length / 16, 4);
        header.writeUInt16LE(nInvalid, 6);
      } else {
        header.writeUInt32BE(index);
        header.writeUInt16BE(entries.length / 16, 4);
        header.writeUInt16BE(nInvalid, 6);
      }
      return Buffer.concat([header, entries]);
    }),
  );
}

/**
 * The spapr/htab payloads of elements cut out of a stream (section headers, no footers): START
 * with a 30-byte header whose name has 10 bytes, the others with 5 bytes.
 */
export function plainElements(bytes: Buffer): Buffer {
  const payloads: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    at += bytes[at] === 1 ? 1 + 4 + 1 + 10 + 4 + 4 : 1 + 4;
    const word = bytes.readUInt32BE(at);
    let end = at + 4;
    if (word === 0) {
      while (!bytes.subarray(end, end + 8).equals(Buffer.alloc(8))) {
        end += 8 + 16 * bytes.readUInt16BE(end + 4);
      }
      end += 8;
    }
    payloads.push(bytes.subarray(at, end));
    at = end;
  }
  return Buffer.concat(payloads);
}
