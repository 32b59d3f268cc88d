// Builds a HashPageTable from blocks of the kernel, headers little-endian, and prints as JSON how
// long that took, how many valid entries it has, and how many bytes of memory each takes beyond its
// own 16: node --expose-gc table-child.mjs FILE ORDER
import { ByteReader, decodeKernel, HashPageTable, openFile } from 'spapr-htab';

const [path, order] = [process.argv[2], Number(process.argv[3])];

function held() {
  for (let i = 0; i < 3; i++) globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function build() {
  const source = await openFile(path);
  try {
    const items = decodeKernel(new ByteReader(source), { byteOrder: 'little', order });
    return await HashPageTable.from(items, order);
  } finally {
    await source.close();
  }
}

const before = held();
const begin = performance.now();
const table = await build();
const seconds = (performance.now() - begin) / 1000;
const after = held();
const { valid } = table.counts();
const bytesPerEntry = (after - before) / valid - 16;
process.stdout.write(`${JSON.stringify({ seconds, valid, bytesPerEntry })}\n`);
