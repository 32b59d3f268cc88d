import { printable } from '../printable.js';
import type { DeviceWarning, UndecodedNode } from './node.js';

const MAX_WARNINGS = 100;

/** Where the decoder is, for warnings; made into text only when there is one. */
export interface Path {
  readonly name: string;
  readonly parent: Path | undefined;
}

function textOf(path: Path): string {
  const names: string[] = [];
  for (let at: Path | undefined = path; at !== undefined; at = at.parent) names.push(at.name);
  return names.reverse().join(' / ');
}

/** What a decoder has to say beside the tree, and how much it may still do. */
export class Findings {
  readonly warnings: DeviceWarning[] = [];
  /** Bytes in nodes of kind `undecoded`. */
  undecoded = 0;
  readonly data: DataView;
  #full = false;
  #nodes: number;

  constructor(
    readonly payload: Uint8Array,
    maxNodes: number,
  ) {
    this.data = new DataView(payload.buffer, payload.byteOffset, payload.length);
    this.#nodes = maxNodes;
  }

  /** `message` is only made when it is reported. */
  warn(code: DeviceWarning['code'], offset: number, path: Path, message: () => string): void {
    if (this.warnings.length >= MAX_WARNINGS) return;
    const last = this.warnings.length === MAX_WARNINGS - 1;
    const text = last
      ? 'there is more that does not fit; no more of it is reported'
      : printable(message());
    this.warnings.push({ code, offset, path: textOf(path), message: text });
  }

  /** Takes `n` nodes from what is allowed; false, with one warning, when that is used up. */
  afford(n: number, offset: number, path: Path): boolean {
    if (!this.#full && n <= this.#nodes) {
      this.#nodes -= n;
      return true;
    }
    if (!this.#full) {
      this.#full = true;
      const message = 'the device has too many values; the rest of them is left undecoded';
      this.warnings.push({ code: 'W_DEVICE_LIMIT', offset, path: textOf(path), message });
    }
    return false;
  }

  view(offset: number, size: number): Uint8Array {
    return new Uint8Array(this.payload.buffer, this.payload.byteOffset + offset, size);
  }

  /** A stretch that nothing explains; the caller says why in a warning. */
  gap(name: string, type: string, offset: number, size: number): UndecodedNode {
    this.undecoded += size;
    return { kind: 'undecoded', name, type, offset, size, bytes: this.view(offset, size) };
  }
}
