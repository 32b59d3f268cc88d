import { closeSync, openSync, readFileSync } from 'node:fs';
import { constants, endianness } from 'node:os';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NATIVE_MAX_BYTES, type NativeFile } from '../../src/addon/load.js';
import { pattern } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';
import { descriptors, handed, htab, LINUX, opened, until } from './support.js';

const { EBADF, EINVAL, EISDIR, EMSGSIZE, EAGAIN, EPROTO } = constants.errno;

const duplicateOf = (path: string, flags = 'r'): NativeFile => {
  const fd = openSync(path, flags);
  try {
    return opened(htab().duplicate(fd));
  } finally {
    closeSync(fd);
  }
};

/** A block as the kernel frames it: u32 index, u16 valid, u16 invalid in host order, entries. */
function block(index: number, valid: number, invalid: number): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(8), pattern(valid * 16, index)]);
  if (endianness() === 'LE') {
    bytes.writeUInt32LE(index, 0);
    bytes.writeUInt16LE(valid, 4);
    bytes.writeUInt16LE(invalid, 6);
  } else {
    bytes.writeUInt32BE(index, 0);
    bytes.writeUInt16BE(valid, 4);
    bytes.writeUInt16BE(invalid, 6);
  }
  return bytes;
}

describe.runIf(LINUX)('one call', () => {
  test('reads what is there, however much was asked for', async () => {
    const file = duplicateOf(scratchFile('in', pattern(1000)));
    const first = await file.read(300);
    expect(first).toEqual({ bytes: new Uint8Array(pattern(1000).subarray(0, 300)), errno: 0 });
    expect(Object.getPrototypeOf(first.bytes)).toBe(Uint8Array.prototype);
    expect((await file.read(NATIVE_MAX_BYTES)).bytes).toHaveLength(700);
    expect(await file.read(1)).toEqual({ bytes: new Uint8Array(), errno: 0 });
    expect(await file.read(0)).toEqual({ bytes: new Uint8Array(), errno: 0 });
  });

  test('writes a copy that is made at once', async () => {
    const path = scratchFile('out', new Uint8Array());
    const file = duplicateOf(path, 'r+');
    const bytes = Buffer.from('before');
    const written = file.write(bytes);
    bytes.fill('x');
    expect(await written).toEqual({ count: 6, errno: 0 });
    expect(await file.write(Buffer.from('..after..').subarray(2, 7))).toMatchObject({ count: 5 });
    expect(readFileSync(path, 'utf8')).toBe('beforeafter');
  });

  test('keeps to its limit, of which the other side knows', async () => {
    const file = duplicateOf('/dev/zero', 'r+');
    expect((await file.read(NATIVE_MAX_BYTES)).bytes).toHaveLength(NATIVE_MAX_BYTES);
    const bytes = new Uint8Array(NATIVE_MAX_BYTES + 1);
    expect(await file.write(bytes.subarray(1))).toEqual({ count: NATIVE_MAX_BYTES, errno: 0 });
    expect(() => file.read(NATIVE_MAX_BYTES + 1)).toThrow(RangeError);
    expect(() => file.read(Number.MAX_SAFE_INTEGER)).toThrow(RangeError);
    expect(() => file.write(bytes)).toThrow(RangeError);
    expect(() => file.writeBlocks(bytes)).toThrow(RangeError);
  });

  test('says the errno', async () => {
    const directory = duplicateOf('/');
    expect(await directory.read(10)).toEqual({ bytes: new Uint8Array(), errno: EISDIR });
    expect(await directory.write(new Uint8Array(1))).toEqual({ count: 0, errno: EBADF });
    expect(await directory.writeBlocks(block(0, 1, 0))).toEqual({
      blocks: 0,
      bytes: 0,
      errno: EBADF,
    });
  });

  test('shares no memory with what is shared or was detached', async () => {
    const path = scratchFile('out', new Uint8Array());
    const file = duplicateOf(path, 'r+');
    const shared = new Uint8Array(new SharedArrayBuffer(6));
    shared.set(Buffer.from('shared'));
    expect(await file.write(shared)).toEqual({ count: 6, errno: 0 });
    const detached = new Uint8Array(10);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    expect(await file.write(detached)).toEqual({ count: 0, errno: 0 });
    expect(await file.writeBlocks(detached)).toEqual({ blocks: 0, bytes: 0, errno: 0 });
    // Detached after the call, while the copy of it waits for its turn.
    const late = new Uint8Array(Buffer.from('late'));
    const written = file.write(late);
    structuredClone(late.buffer, { transfer: [late.buffer] });
    expect(await written).toEqual({ count: 4, errno: 0 });
    expect(readFileSync(path, 'utf8')).toBe('sharedlate');
  });
});

describe.runIf(LINUX)('writeBlocks', () => {
  test('makes one write of each block, for blocks of any shape', async () => {
    const { file, ask } = await handed('pair()');
    const shape = fc.tuple(fc.nat(0xffffffff), fc.oneof(fc.nat(3), fc.nat(1000)), fc.nat(0xffff));
    await fc.assert(
      fc.asyncProperty(fc.array(shape, { maxLength: 8 }), async (shapes) => {
        const blocks = shapes.map(([index, valid, invalid]) => block(index, valid, invalid));
        const all = Buffer.concat(blocks);
        expect(await file.writeBlocks(all)).toEqual({
          blocks: blocks.length,
          bytes: all.length,
          errno: 0,
        });
        expect(await ask(`got(${blocks.length})`)).toEqual(blocks.map((b) => b.toString('hex')));
      }),
      { numRuns: 50 },
    );
  });

  test('never hands over a block that does not end within its bytes', async () => {
    const { file, ask } = await handed('pair()');
    const [first, second] = [block(7, 2, 3), block(9, 1, 0)];
    const all = Buffer.concat([first, second]);
    for (let end = 0; end <= all.length; end++) {
      const whole = end === all.length ? [first, second] : end >= first.length ? [first] : [];
      const bytes = whole.reduce((sum, { length }) => sum + length, 0);
      expect(await file.writeBlocks(all.subarray(0, end)), `${end} bytes`).toEqual({
        blocks: whole.length,
        bytes,
        errno: bytes === end ? 0 : EINVAL,
      });
      expect(await ask(`got(${whole.length})`)).toEqual(whole.map((b) => b.toString('hex')));
    }
    expect(await ask('idle()')).toBe(true);
  });

  test('ends at the first block that fails', async () => {
    const { file, ask } = await handed('pair()');
    // More than one message may have.
    const [good, large] = [block(1, 3, 0), block(2, 65535, 65535)];
    expect(large.length).toBe(1_048_568);
    expect(await file.writeBlocks(Buffer.concat([good, good, large, good]))).toEqual({
      blocks: 2,
      bytes: 2 * good.length,
      errno: EMSGSIZE,
    });
    expect(await ask('got(2)')).toEqual([good.toString('hex'), good.toString('hex')]);
  });

  test('calls it an error when a part of a block was taken', async () => {
    const { file, ask } = await handed('pipe(1, False)');
    const small = block(0, 1, 0);
    // More than a pipe holds: it takes what it has room for.
    const all = Buffer.concat([small, small, block(5, 65535, 0)]);
    expect(await file.writeBlocks(all)).toEqual({ blocks: 2, bytes: 48, errno: EPROTO });
    expect(await file.writeBlocks(small)).toEqual({ blocks: 0, bytes: 0, errno: EAGAIN });
    const [taken] = await ask<string[]>('got(1)');
    expect(all.toString('hex').startsWith(taken ?? '-')).toBe(true);
  });
});

describe.runIf(LINUX)('closing', () => {
  test('says EBADF to whatever comes after it', async () => {
    const file = duplicateOf(scratchFile('in', pattern(10)));
    const { fd } = file;
    expect(descriptors().has(fd)).toBe(true);
    file.close();
    expect(descriptors().has(fd)).toBe(false);
    expect(file.fd).toBe(-1);
    file.close();
    expect(await file.read(1)).toEqual({ bytes: new Uint8Array(), errno: EBADF });
    expect(await file.write(new Uint8Array(1))).toEqual({ count: 0, errno: EBADF });
    expect(await file.writeBlocks(block(0, 0, 0))).toEqual({ blocks: 0, bytes: 0, errno: EBADF });
    expect(htab().receive(file)).toEqual({ errno: EBADF });
  });

  test('waits for what is in flight', async () => {
    const { file, ask } = await handed('pipe(0)');
    const { fd } = file;
    const name = descriptors().get(fd);
    expect(name).toMatch(/^pipe:/);
    let settled = false;
    const reading = file.read(100).finally(() => {
      settled = true;
    });
    file.close();
    expect(file.fd).toBe(-1);
    expect(await file.read(1)).toMatchObject({ errno: EBADF });
    expect(descriptors().get(fd)).toBe(name);
    expect(settled).toBe(false);
    await ask('put("c0ffee")');
    expect(await reading).toEqual({ bytes: new Uint8Array([0xc0, 0xff, 0xee]), errno: 0 });
    // The reference of the call goes with it.
    await until(() => descriptors().get(fd) !== name);
  });
});
