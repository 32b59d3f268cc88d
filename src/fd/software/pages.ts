import { lowerBound } from '../../htab/lower-bound.js';
import type { SlotPage } from './page.js';

/** Most pages of a stretch: few enough that one more in their midst costs little. */
const MOST = 512;

/** Neighbouring pages, ascending, and the slots at which they begin. */
interface Stretch {
  readonly firsts: number[];
  readonly pages: SlotPage[];
}

/**
 * Pages in ascending order, with none made twice. Finding and inserting one, in any order, takes the
 * logarithm of their number and a little.
 */
export class PageList {
  readonly #stretches: Stretch[] = [];
  /** Where each stretch begins. */
  readonly #begins: number[] = [];

  /** The page that begins at that slot. */
  get(first: number): SlotPage | undefined {
    const stretch = this.#stretches[this.#stretchOf(first)];
    if (stretch === undefined) return undefined;
    const { firsts, pages } = stretch;
    const i = lowerBound(firsts, firsts.length, first);
    return firsts[i] === first ? pages[i] : undefined;
  }

  /** Inserts a page; there is none that begins where it does. */
  add(page: SlotPage): void {
    const at = this.#stretchOf(page.first);
    const stretch = this.#stretches[at];
    if (stretch === undefined) {
      this.#insert(0, { firsts: [page.first], pages: [page] });
      return;
    }
    const { firsts, pages } = stretch;
    const i = lowerBound(firsts, firsts.length, page.first);
    // Filled in ascending order, stretches stay whole.
    if (i === MOST) {
      this.#insert(at + 1, { firsts: [page.first], pages: [page] });
      return;
    }
    firsts.splice(i, 0, page.first);
    pages.splice(i, 0, page);
    if (i === 0) this.#begins[at] = page.first;
    if (firsts.length > MOST) {
      const half = MOST / 2;
      this.#insert(at + 1, { firsts: firsts.splice(half), pages: pages.splice(half) });
    }
  }

  /** The page that begins at that slot, or the next one, and those behind it. */
  from(first: number): PageCursor {
    const at = this.#stretchOf(first);
    const firsts = this.#stretches[at]?.firsts ?? [];
    return new PageCursor(this.#stretches, at, lowerBound(firsts, firsts.length, first));
  }

  /** The number of the last stretch that does not begin behind that slot, or of the first. */
  #stretchOf(first: number): number {
    const begins = this.#begins;
    const at = lowerBound(begins, begins.length, first);
    return at > 0 && begins[at] !== first ? at - 1 : at;
  }

  #insert(at: number, stretch: Stretch): void {
    this.#stretches.splice(at, 0, stretch);
    this.#begins.splice(at, 0, stretch.firsts[0] ?? 0);
  }
}

/** A place among pages. What is inserted meanwhile makes it void. */
export class PageCursor {
  readonly #stretches: readonly Stretch[];
  #at: number;
  #i: number;

  constructor(stretches: readonly Stretch[], at: number, i: number) {
    this.#stretches = stretches;
    this.#at = at;
    this.#i = i;
    this.#settle();
  }

  /** Undefined behind the last page. */
  get page(): SlotPage | undefined {
    return this.#stretches[this.#at]?.pages[this.#i];
  }

  next(): void {
    this.#i++;
    this.#settle();
  }

  #settle(): void {
    const stretch = this.#stretches[this.#at];
    if (stretch === undefined || this.#i < stretch.pages.length) return;
    this.#at++;
    this.#i = 0;
  }
}
