import { type ByteOrder, HEADER_BYTES } from './block.js';
import { FLAG_VALID, FLAGS_BYTE } from './hpte.js';
import { HPTE_BYTES } from './order.js';

/**
 * The byte order of the chunk headers in a part of `spapr/htab`. They are big-endian, except that
 * QEMU up to 2.2 on little-endian KVM hosts passed the kernel's headers on as they were
 * (target-ppc/kvm.c kvmppc_save_htab; mended in 2.3).
 *
 * Little-endian is only believed when the bytes cannot be big-endian chunks of this table, and can
 * be little-endian ones.
 * @param bytes the beginning of the part, behind its zero word; what follows the part may follow
 * @param whole whether the input ends with these bytes: then the part's end mark is among them
 */
export function chunkByteOrder(bytes: Uint8Array, slots: number, whole: boolean): ByteOrder {
  const can = (little: boolean): boolean => canBeChunks(bytes, slots, whole, little);
  return !can(false) && can(true) ? 'little' : 'big';
}

function canBeChunks(bytes: Uint8Array, slots: number, whole: boolean, little: boolean): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  while (bytes.length - at >= HEADER_BYTES) {
    const index = view.getUint32(at, little);
    const nValid = view.getUint16(at + 4, little);
    const nInvalid = view.getUint16(at + 6, little);
    if (nValid === 0 && nInvalid === 0 && index === 0) return true;
    if (index + nValid + nInvalid > slots) return false;
    const end = at + HEADER_BYTES + nValid * HPTE_BYTES;
    for (let entry = at + HEADER_BYTES; entry < end; entry += HPTE_BYTES) {
      if (entry + HPTE_BYTES > bytes.length) return !whole;
      if (!((bytes[entry + FLAGS_BYTE] ?? 0) & FLAG_VALID)) return false;
    }
    at = end;
  }
  return !whole;
}
