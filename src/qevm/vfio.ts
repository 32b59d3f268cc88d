import { FormatError } from '../errors.js';
import type { PayloadWalker } from './elements.js';

/**
 * The iterable section of an assigned device, `<path>/vfio` (hw/vfio/migration.c vfio_load_state,
 * QEMU 5.2 to 10.2): u64 tags.
 */
const TAG = {
  END_OF_STATE: 0xffffffffef100001n,
  DEV_CONFIG_STATE: 0xffffffffef100002n,
  DEV_SETUP_STATE: 0xffffffffef100003n,
  DEV_DATA_STATE: 0xffffffffef100004n,
  INIT_DATA_SENT: 0xffffffffef100005n,
  CONFIG_LOAD_READY: 0xffffffffef100006n,
} as const;

/** Whether a section of this name is a VFIO device's. */
export function isVfio(name: string): boolean {
  return name === 'vfio' || name.endsWith('/vfio');
}

/** Walks the tags up to the end of the state, or behind a tag that ends the payload by itself. */
export const walkVfio: PayloadWalker<void> = async function* (reader, { section }) {
  for (;;) {
    await reader.ensure(8, `a tag of '${section.name}'`);
    const offset = reader.offset;
    const tag = reader.u64();
    switch (tag) {
      case TAG.END_OF_STATE:
      case TAG.INIT_DATA_SENT:
      case TAG.CONFIG_LOAD_READY:
        return;
      case TAG.DEV_SETUP_STATE:
        break;
      case TAG.DEV_DATA_STATE: {
        await reader.ensure(8, `data of '${section.name}'`);
        const length = reader.u64();
        if (length > BigInt(Number.MAX_SAFE_INTEGER)) {
          throw new FormatError('E_ELEMENT', 'device data is longer than any file', {
            offset: offset + 8,
            path: section.name,
            actual: String(length),
          });
        }
        yield* reader.passOver(Number(length), `data of '${section.name}'`);
        break;
      }
      default:
        throw new FormatError('E_ELEMENT', 'a VFIO section has an unknown tag', {
          offset,
          path: section.name,
          expected: 'a tag 0xffffffffef10000x, and no embedded configuration',
          actual: `0x${tag.toString(16)}`,
        });
    }
    yield;
  }
};
