import { FormatError } from '../errors.js';

/**
 * XBZRLE: a page as its difference to what it was before. Pairs of a run that stays (zrun) and a
 * run of new bytes (nzrun), each run's length a ULEB128 of at most two bytes; what follows the
 * last pair stays (migration/xbzrle.c xbzrle_decode_buffer, util/cutils.c uleb128_decode_small,
 * QEMU 1.2 to 10.2).
 */

const PATH = 'ram / XBZRLE page';

/**
 * Changes `page` as `delta` says, and refuses what QEMU refuses. A page that was refused may have
 * been changed in part.
 * @param page what the page was before
 * @param offset position of the delta in its source, for errors
 * @returns where the last run of new bytes ends in the page
 * @throws FormatError `E_RAM`
 */
export function decodeXbzrle(delta: Uint8Array, page: Uint8Array, offset = 0): number {
  const size = delta.length;
  let at = 0;
  let to = 0;
  while (at < size) {
    const zrun = readLength(delta, at, offset);
    if (at > 0 && zrun === 0) throw wrong('a run of unchanged bytes is empty', offset + at);
    if (to + zrun > page.length) {
      throw wrong(
        'a run of unchanged bytes goes beyond the page',
        offset + at,
        page.length,
        to,
        zrun,
      );
    }
    at += lengthBytes(delta, at);
    to += zrun;

    const nzrun = readLength(delta, at, offset);
    if (nzrun === 0) throw wrong('a run of new bytes is empty', offset + at);
    if (to + nzrun > page.length) {
      throw wrong('a run of new bytes goes beyond the page', offset + at, page.length, to, nzrun);
    }
    const start = at + lengthBytes(delta, at);
    if (start + nzrun > size) {
      throw wrong('a run of new bytes is cut off', offset + at, size, start, nzrun);
    }
    page.set(delta.subarray(start, start + nzrun), to);
    at = start + nzrun;
    to += nzrun;
  }
  return to;
}

/** A run's length; two bytes must be left even for a length of one (as a run is never last). */
function readLength(delta: Uint8Array, at: number, offset: number): number {
  if (delta.length - at < 2) throw wrong('the page ends inside a pair of runs', offset + at);
  const first = delta[at] ?? 0;
  if (first < 0x80) return first;
  const second = delta[at + 1] ?? 0;
  if (second >= 0x80) throw wrong('the length of a run has more than two bytes', offset + at);
  return (first & 0x7f) | (second << 7);
}

function lengthBytes(delta: Uint8Array, at: number): number {
  return (delta[at] ?? 0) < 0x80 ? 1 : 2;
}

function wrong(
  message: string,
  offset: number,
  limit?: number,
  from?: number,
  length?: number,
): FormatError {
  return new FormatError('E_RAM', message, {
    offset,
    path: PATH,
    expected: limit === undefined ? undefined : `at most ${limit} bytes`,
    actual: length === undefined ? undefined : `${length} from ${from}`,
  });
}
