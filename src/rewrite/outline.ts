import type { HtabItem } from '../htab/items.js';
import { endsPayload } from './payloads.js';

/** What has to be known of an HPT before it is put in, and holds for each time that it is read. */
export class Outline {
  #order: number | undefined;
  #radix = false;
  #payloads = 0;
  #starts = 0;
  #holes = 0;
  #reach = 0;
  /** Whether it begins with its order, or the word that there is none. */
  #begun: boolean | undefined;

  add(item: HtabItem): void {
    this.#begun ??= item.type === 'order' || item.type === 'no-hpt';
    if (endsPayload(item)) this.#payloads++;
    if (item.type === 'order') {
      this.#starts++;
      this.#order = item.order;
      this.#radix = false;
    } else if (item.type === 'no-hpt') {
      this.#holes++;
      this.#radix = true;
    } else if (item.type === 'blocks') {
      item.batch.forEach((index, nValid, nInvalid) => {
        this.#reach = Math.max(this.#reach, index + nValid + nInvalid);
      });
    }
  }

  /** log2 of the table's size in bytes; undefined when nothing told it, or for radix. */
  get order(): number | undefined {
    return this.#radix ? undefined : this.#order;
  }

  /** The guest has no HPT. */
  get radix(): boolean {
    return this.#radix;
  }

  /** START and the parts. What begins with blocks gets a START put in front. */
  get payloads(): number {
    return this.#payloads + this.#added;
  }

  get #added(): number {
    return this.#begun ? 0 : 1;
  }

  /** Whether its first payload, and no other, begins the table: so in everything that QEMU writes. */
  get regular(): boolean {
    return this.#starts + this.#added <= 1 && this.#holes === 0;
  }

  /** One past the highest slot that a block covers. */
  get reach(): number {
    return this.#reach;
  }

  /**
   * Whether another reading came to the same.
   * @param order that it was told, where this one did not find it
   */
  fits(other: Outline, order: number | undefined): boolean {
    return (
      other.order === (this.order ?? order) &&
      other.radix === this.radix &&
      other.payloads === this.payloads &&
      other.regular === this.regular &&
      other.reach === this.reach
    );
  }
}
