import {
  command,
  configuration,
  full,
  header,
  start,
  str8,
  tail,
  u32,
  u64,
} from '../../helpers/stream.js';
import type { FileWriter } from './file-writer.js';
import { HptBlocks, type HptShape } from './hpt.js';
import { isZeroPage, PAGE, putPage } from './memory.js';

export interface GuestShape {
  /** Bytes of RAM; half of its pages are zero. */
  readonly ram: number;
  readonly hpt: HptShape;
}

const BLOCK = 'ppc_spapr.ram';
const FOOTERS = { footers: true };
const IDS = { ram: 2, htab: 5 };
const FLAG = { ZERO: 2, SIZE: 4, PAGE: 8, EOS: 16, SAME: 32 };
const EOS = u64(FLAG.EOS);
/** RAM in one PART: what a file takes in the time that QEMU gives an iteration, about. */
const ROUND = 64 * 1024 * 1024;
/** One in so many entries and pages changes after it was sent. */
const DIRTY = 64;
const DEVICES = [
  { name: 'cpu', size: 2600 },
  { name: 'spapr_pci', size: 12_000 },
  { name: 'timer', size: 24 },
];

/** What the last iteration says of the HPT: changes only, gaps not counted. */
export function changes({ hpt }: GuestShape): HptShape {
  const entries = Math.ceil(hpt.entries / DIRTY);
  return { ...hpt, entries, covers: false, seed: 1 };
}

/**
 * A migration stream as QEMU writes it for a file: RAM and HPT by turns in PARTs, what changed since
 * in their ENDs, devices, the description.
 */
export function writeStream(out: FileWriter, guest: GuestShape): void {
  head(out, []);
  out.put(start(IDS.ram, 'ram', 4, Buffer.concat([blockList(guest), EOS]), FOOTERS));
  out.put(start(IDS.htab, 'spapr/htab', 1, u32(guest.hpt.order), FOOTERS));
  const rounds = Math.ceil(guest.ram / ROUND);
  const table = new HptBlocks(guest.hpt);
  for (let i = 0; i < rounds; i++) {
    const end = Math.min((i + 1) * ROUND, guest.ram);
    section(out, 2, IDS.ram, () => pages(out, (i * ROUND) / PAGE, end / PAGE, 1, i === 0));
    const share = i === rounds - 1 ? table.left : Math.ceil(guest.hpt.entries / rounds);
    section(out, 2, IDS.htab, () => chunks(out, table, share));
  }
  end(out, guest, () => pages(out, 0, guest.ram / PAGE, DIRTY, false));
}

/**
 * The same with mapped-ram (migration/ram.c mapped_ram_setup_ramblock, QEMU 9.0): pages at their
 * places behind the block's entry in START, where zero pages are holes.
 */
export function writeMappedStream(out: FileWriter, guest: GuestShape): void {
  head(out, ['mapped-ram']);
  out.put(Buffer.concat([Buffer.of(1), u32(IDS.ram), str8('ram'), u32(0), u32(4)]));
  out.put(blockList(guest));
  const count = guest.ram / PAGE;
  const bitmap = Buffer.alloc(Math.ceil(count / 64) * 8);
  for (let i = 0; i < count; i++) {
    if (!isZeroPage(i)) bitmap[i >> 3] = (bitmap[i >> 3] ?? 0) | (1 << (i & 7));
  }
  const bitmapAt = out.position + 4 + 3 * 8;
  const pagesAt = Math.ceil((bitmapAt + bitmap.length) / 2 ** 20) * 2 ** 20;
  out.put(Buffer.concat([u32(1), u64(PAGE), u64(bitmapAt), u64(pagesAt)]));
  out.put(bitmap);
  for (let i = 0; i < count; i++) {
    if (isZeroPage(i)) continue;
    if (out.position !== pagesAt + i * PAGE) out.passTo(pagesAt + i * PAGE);
    putPage(out.bytes, out.room(PAGE), i);
  }
  out.passTo(pagesAt + guest.ram);
  out.put(Buffer.concat([EOS, Buffer.of(0x7e), u32(IDS.ram)]));
  out.put(start(IDS.htab, 'spapr/htab', 1, u32(guest.hpt.order), FOOTERS));
  section(out, 2, IDS.ram, () => undefined);
  section(out, 2, IDS.htab, () => chunks(out, new HptBlocks(guest.hpt), guest.hpt.entries));
  end(out, guest, () => undefined);
}

function head(out: FileWriter, capabilities: string[]): void {
  out.put(header());
  out.put(configuration('pseries-9.2', capabilities));
}

function blockList({ ram }: GuestShape): Buffer {
  return Buffer.concat([u64(ram + FLAG.SIZE), str8(BLOCK), u64(ram)]);
}

/** A section without a name. What `ram` has ends with its own mark. */
function section(out: FileWriter, type: 2 | 3, id: number, payload: () => void): void {
  out.put(Buffer.concat([Buffer.of(type), u32(id)]));
  payload();
  if (id === IDS.ram) out.put(EOS);
  out.put(Buffer.concat([Buffer.of(0x7e), u32(id)]));
}

function chunks(out: FileWriter, table: HptBlocks, entries: number): void {
  out.put(u32(0));
  table.write(out, false, entries);
  out.put(Buffer.alloc(8));
}

/** Page entries; only the very first names its block. */
function pages(out: FileWriter, from: number, to: number, step: number, named: boolean): void {
  const { view, bytes } = out;
  for (let page = from; page < to; page += step) {
    const zero = isZeroPage(page);
    const name = named && page === from ? str8(BLOCK) : undefined;
    const at = out.room(8);
    const address = page * PAGE;
    const flags = (zero ? FLAG.ZERO : FLAG.PAGE) | (name === undefined ? FLAG.SAME : 0);
    view.setUint32(at, Math.floor(address / 2 ** 32));
    view.setUint32(at + 4, (address % 2 ** 32) + flags);
    if (name !== undefined) out.put(name);
    if (zero) bytes[out.room(1)] = 0;
    else putPage(bytes, out.room(PAGE), page);
  }
}

function end(out: FileWriter, guest: GuestShape, lastPages: () => void): void {
  out.put(command(11, Buffer.alloc(0)));
  section(out, 3, IDS.ram, lastPages);
  const last = new HptBlocks(changes(guest));
  section(out, 3, IDS.htab, () => chunks(out, last, last.left));
  DEVICES.forEach(({ name, size }, i) => {
    out.put(full(10 + i, name, 1, Buffer.alloc(size, 0x11 * (i + 1)), FOOTERS));
  });
  out.put(tail(DEVICES));
}
