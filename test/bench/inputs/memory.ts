import { random } from '../../helpers/random.js';

export const PAGE = 4096;

/** Pages that are made once; together far larger than what gzip and zstd remember (2 MiB). */
const POOL_PAGES = 4096;
/** Guests use pages of 64 KiB; a stream has them in pieces of 4 KiB. */
const GUEST_PAGE = 16;

/** Words of a page by what a guest has in memory: numbers, pointers, text, noise. */
function paint(page: Buffer, next: () => number): void {
  const kind = next();
  const base = Math.floor(next() * 2 ** 32);
  for (let at = 0; at < PAGE; at += 8) {
    const value = Math.floor(next() * 2 ** 32);
    if (kind < 0.35) {
      page.writeUInt32BE(0, at);
      page.writeUInt32BE(value & (value & 1 ? 0xff : 0), at + 4);
    } else if (kind < 0.7) {
      page.writeUInt32BE(0xc0000000, at);
      page.writeUInt32BE(((base & 0xfff00000) | (value & 0xffff8)) >>> 0, at + 4);
    } else if (kind < 0.9) {
      page.write('the of a kernel page memory '.slice(value & 7).slice(0, 8), at, 'latin1');
      page[at + (value & 7)] = 97 + ((value >>> 8) % 26);
    } else {
      page.writeUInt32BE(value, at);
      page.writeUInt32BE(Math.floor(next() * 2 ** 32), at + 4);
    }
  }
}

let pool: Buffer | undefined;

function makePool(): Buffer {
  const bytes = Buffer.alloc(POOL_PAGES * PAGE);
  const next = random(4096);
  for (let i = 0; i < POOL_PAGES; i++) paint(bytes.subarray(i * PAGE, (i + 1) * PAGE), next);
  return bytes;
}

/** Of two neighbours of 64 KiB, one is zero: half of all memory, in no pattern. */
export function isZeroPage(page: number): boolean {
  const group = Math.floor(page / GUEST_PAGE);
  const bit = Math.imul(group >>> 1, 0x9e3779b1) >>> 31;
  return (group & 1) === bit;
}

/** Puts the content of a page that is not zero at `at`; its number makes it like no other. */
export function putPage(target: Buffer, at: number, page: number): void {
  pool ??= makePool();
  const from = ((Math.imul(page, 0x85ebca6b) >>> 8) % POOL_PAGES) * PAGE;
  pool.copy(target, at, from, from + PAGE);
  target.writeUInt32BE(page, at + PAGE - 4);
}
