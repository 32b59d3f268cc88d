import { SpaprHtabError } from '../../src/errors.js';
import type { SoftwareDescriptor } from '../../src/fd/software/descriptor.js';
import type { SoftwareHtab } from '../../src/fd/software/vm.js';
import { block } from '../helpers/entries.js';

export { block, type Entry, R, run, V } from '../helpers/entries.js';

const hex = (value: bigint): string => value.toString(16).padStart(16, '0');

/** What a call returned, in one line: bytes as blocks `[index v i] dw0:dw1`, or an errno. */
export function show(result: Uint8Array): string {
  const bytes = Buffer.from(result);
  const words = [String(bytes.length)];
  for (let at = 0; at < bytes.length; ) {
    const nValid = bytes.readUInt16LE(at + 4);
    words.push(`[${bytes.readUInt32LE(at)} v${nValid} i${bytes.readUInt16LE(at + 6)}]`);
    at += 8;
    for (let j = 0; j < nValid; j++, at += 16) {
      words.push(`${hex(bytes.readBigUInt64BE(at))}:${hex(bytes.readBigUInt64BE(at + 8))}`);
    }
  }
  return words.join(' ');
}

/** The errno of a call that fails, or what it gave. */
export async function answer<T>(call: () => T | Promise<T>): Promise<T | string> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof SpaprHtabError && error.actual !== undefined) return error.actual;
    throw error;
  }
}

export async function read(fd: SoftwareDescriptor, length: number, mapped?: number) {
  const result = await answer(() => fd.read(length, mapped));
  return typeof result === 'string' ? result : show(result);
}

/** One entry into one slot. */
export async function put(fd: SoftwareDescriptor, index: number, dw0: bigint, dw1: bigint) {
  return await fd.write(block(index, [[dw0, dw1]]));
}

/** What one descriptor gave until it gave nothing. */
export interface Pass {
  readonly bytes: Buffer;
  readonly reads: number;
}

export async function drain(fd: SoftwareDescriptor, length: number): Promise<Pass> {
  const parts: Uint8Array[] = [];
  for (;;) {
    const bytes = await fd.read(length);
    if (bytes.length === 0) return { bytes: Buffer.concat(parts), reads: parts.length };
    parts.push(bytes);
  }
}

/** Blocks of a pass, without their entries. */
export function counts(bytes: Buffer): { blocks: number; valid: number; invalid: number } {
  let blocks = 0;
  let valid = 0;
  let invalid = 0;
  for (let at = 0; at < bytes.length; ) {
    const nValid = bytes.readUInt16LE(at + 4);
    blocks++;
    valid += nValid;
    invalid += bytes.readUInt16LE(at + 6);
    at += 8 + 16 * nValid;
  }
  return { blocks, valid, invalid };
}

/** A table as slots with entries, from blocks in their order. */
export function apply(model: Map<number, string>, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) {
    const index = bytes.readUInt32LE(at);
    const nValid = bytes.readUInt16LE(at + 4);
    const nInvalid = bytes.readUInt16LE(at + 6);
    at += 8;
    for (let j = 0; j < nValid; j++, at += 16) {
      model.set(index + j, bytes.toString('hex', at, at + 16));
    }
    for (let j = 0; j < nInvalid; j++) model.delete(index + nValid + j);
  }
}

/** A guest with 64 MiB at 0, as the kernel's answers were recorded with. */
export const MEMORY = [{ base: 0n, size: 64n << 20n }];

export function both(vm: SoftwareHtab): { w: SoftwareDescriptor; r: SoftwareDescriptor } {
  return { w: vm.descriptor({ write: true }), r: vm.descriptor() };
}
