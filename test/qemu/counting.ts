import {
  add,
  addi,
  andi,
  clear,
  clrldi,
  elf,
  enter,
  enterNow,
  fill,
  jump,
  ld,
  li,
  load,
  mtmsrd,
  mulld,
  mulli,
  not,
  or,
  ori,
  remove,
  say,
  sayHex,
  sldi,
  std,
  times,
} from '../../fixtures/capture/ppc.js';

/**
 * A guest of one small program that goes on for ever: each round it adds up what is in its memory
 * says `tick COUNTER sum CHECKSUM` and enters and removes
 * entries of its HPT. Its translation is off, so it never looks at its own HPT, and
 * one of another order does not harm it. The entries stand where their hashes say:
 *
 * - 64 bolted ones in the PTEGs 32 to 39;
 * - 512 with the primary hash, spread over the table, and 128 with the secondary;
 * - 32 or so of 64 others, which come and go.
 *
 * The hash is that of segments of 256 MiB and pages of 4 KiB (Power ISA 3.0 Book III 5.7.9.2); with
 * page 0 of a segment it is the virtual segment ID.
 */
const LINK = 0x400000; // KERNEL_LOAD_ADDR, include/hw/ppc/spapr.h
const RESERVED = 0x10000;
const MEMORY = 256 * 2 ** 20;
const PATTERN = 16 * 2 ** 20;
const PATTERN_END = PATTERN + 64 * 4096;
const BUSY = 32 * 2 ** 20;

/** log2 of the number of PTEGs in a table of order 21, which QEMU gives a guest of 256 MiB. */
const PTEG_BITS = 14;
const SECONDARY = 0x2;
/** In each round, which takes a tenth of a second. */
const CHANGES = 10_000;

// Registers that nothing else changes.
const COUNTER = 20;
const SUM = 21;
const FACTOR = 22;
const SEGMENT = 23;

/** Enters an entry for page 0 of the segment in SEGMENT, into the slot r14 modulo 8 of its PTEG. */
function enterHashed(secondary: boolean): number[] {
  return [
    ...(secondary ? [not(5, SEGMENT)] : [or(5, SEGMENT, SEGMENT)]),
    clrldi(5, 5, 64 - PTEG_BITS),
    sldi(5, 5, 3),
    andi(6, 14, 7),
    add(5, 5, 6),
    sldi(6, SEGMENT, 12),
    ori(6, 6, 1 + (secondary ? SECONDARY : 0)),
    sldi(7, 14, 12),
    ori(7, 7, 0x190), // referenced, changed, memory coherent
    ...enterNow,
  ];
}

const SETUP: readonly number[] = [
  li(5, 0),
  mtmsrd(5), // no interrupts: their handlers are about to go
  ...clear(0, LINK),
  ...clear(LINK + RESERVED, MEMORY),
  ...load(FACTOR, 6364136223846793005n), // Knuth's MMIX
  ...load(6, 1),
  ...fill(PATTERN, PATTERN_END, [mulld(6, 6, FACTOR), addi(6, 6, 12345)]),
  ...times(64, [addi(5, 14, 0x100), ...enter(0x11)]),
  ...times(512, [mulli(SEGMENT, 14, 37), addi(SEGMENT, SEGMENT, 64), ...enterHashed(false)]),
  ...times(128, [mulli(SEGMENT, 14, 149), addi(SEGMENT, SEGMENT, 71), ...enterHashed(true)]),
  li(COUNTER, 0),
];

/**
 * Enters one of the 64 and removes another, r14 says which, and writes to two pages. They are of the
 * segments 0x1000 and following, at home from PTEG 0x1000 on. A live migration goes on only while it
 * finds pages written to; the removal flushes the TLB, without which they are not noticed (painter.ts
 * has more on that).
 */
const CHANGE: readonly number[] = [
  andi(SEGMENT, 14, 0x3f),
  ori(SEGMENT, SEGMENT, 0x1000),
  ...enterHashed(false),
  addi(8, 14, 32),
  andi(8, 8, 0x3f),
  ori(5, 8, 0x1000),
  sldi(5, 5, 3),
  andi(6, 8, 7),
  add(5, 5, 6),
  ...remove,
  ...load(4, BUSY),
  std(14, 0, 4),
  addi(4, 4, 0x4000),
  std(14, 0, 4),
];

const ROUND: readonly number[] = [
  addi(COUNTER, COUNTER, 1),
  li(SUM, 0),
  ...load(4, PATTERN),
  ...times((PATTERN_END - PATTERN) / 8, [
    ld(6, 0, 4),
    mulli(SUM, SUM, 37),
    add(SUM, SUM, 6),
    addi(4, 4, 8),
  ]),
  ...say('tick '),
  ...sayHex(COUNTER),
  ...say(' sum '),
  ...sayHex(SUM),
  ...say('\n'),
  ...times(CHANGES, CHANGE),
];

/** The program as an ELF file. */
export function counting(): Buffer {
  return elf([...SETUP, ...ROUND, jump(-ROUND.length)]);
}
