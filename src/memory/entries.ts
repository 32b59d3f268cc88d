/** What a page entry does to its page. */
export const PAGE_KIND = {
  /** Clears pages in a row: `length` is their number. */
  CLEAR: 0,
  /** Repeats the byte `at`. */
  FILL: 1,
  /** Stands as it is at `at`. */
  PAGE: 2,
  /** `length` bytes at `at`. */
  XBZRLE: 3,
  COMPRESSED: 4,
} as const;

/**
 * Page entries of one window, in stream order, held in columns so that none is an object of its
 * own. `at` is an index into the window.
 */
export class PageEntries {
  count = 0;
  kind = new Uint8Array(1024);
  address = new Float64Array(1024);
  at = new Int32Array(1024);
  length = new Int32Array(1024);
  /** Position of the data in the source. */
  offset = new Float64Array(1024);

  add(kind: number, address: number, at: number, length: number, offset: number): void {
    if (this.count === this.kind.length) this.#grow();
    const i = this.count++;
    this.kind[i] = kind;
    this.address[i] = address;
    this.at[i] = at;
    this.length[i] = length;
    this.offset[i] = offset;
  }

  /** One more page to clear, joined to the entry before where it follows on it. */
  addClear(address: number, pageSize: number): void {
    const last = this.count - 1;
    if (last >= 0 && this.kind[last] === PAGE_KIND.CLEAR) {
      const pages = this.length[last] ?? 0;
      if ((this.address[last] ?? 0) + pages * pageSize === address) {
        this.length[last] = pages + 1;
        return;
      }
    }
    this.add(PAGE_KIND.CLEAR, address, 0, 1, 0);
  }

  #grow(): void {
    const size = this.kind.length * 2;
    this.kind = grown(this.kind, new Uint8Array(size));
    this.address = grown(this.address, new Float64Array(size));
    this.at = grown(this.at, new Int32Array(size));
    this.length = grown(this.length, new Int32Array(size));
    this.offset = grown(this.offset, new Float64Array(size));
  }
}

function grown<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
