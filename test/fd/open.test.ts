import { closeSync, openSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { NativeDescriptor } from '../../src/fd/native-descriptor.js';
import { adoptHtabFd, htabFdOfProcess, openHtabFd, receiveHtabFd } from '../../src/index.js';
import { scratchFile } from '../helpers/sources.js';
import { descriptors, handed, LINUX, startPeer } from '../native/support.js';
import { blocks } from './scripted.js';

afterEach(() => vi.unstubAllEnvs());

describe.runIf(LINUX)('what is no HTAB fd is refused', () => {
  test('a VM fd that is none', async () => {
    const fd = openSync('/dev/null', 'r');
    try {
      await expect(openHtabFd(fd)).rejects.toMatchObject({ code: 'E_HTAB_FD', actual: 'ENOTTY' });
      await expect(openHtabFd(fd)).rejects.toThrow(/no VM of kvm-hv/);
      await expect(openHtabFd(2 ** 31 - 1)).rejects.toMatchObject({ actual: 'EBADF' });
    } finally {
      closeSync(fd);
    }
  });

  test('a file that is none', async () => {
    const before = descriptors().size;
    const fd = openSync('/dev/null', 'r');
    try {
      const refused = adoptHtabFd(fd);
      await expect(refused).rejects.toMatchObject({ code: 'E_NOT_HTAB_FD', actual: '/dev/null' });
    } finally {
      closeSync(fd);
    }
    await expect(adoptHtabFd(fd)).rejects.toMatchObject({ code: 'E_HTAB_FD', actual: 'EBADF' });
    expect(descriptors().size).toBe(before);
  });

  test('numbers that are none', async () => {
    for (const fd of [-1, 1.5, Number.NaN, 2 ** 31]) {
      await expect(adoptHtabFd(fd)).rejects.toMatchObject({ code: 'E_USAGE' });
      await expect(openHtabFd(fd)).rejects.toMatchObject({ code: 'E_USAGE' });
      await expect(htabFdOfProcess(1, { fd })).rejects.toMatchObject({ code: 'E_USAGE' });
    }
    await expect(htabFdOfProcess(0)).rejects.toMatchObject({ code: 'E_USAGE' });
    for (const startIndex of [-1n, 1n << 64n]) {
      await expect(openHtabFd(0, { startIndex })).rejects.toMatchObject({ code: 'E_USAGE' });
    }
  });

  test('a process that has none, and one that is not there', async () => {
    const { pid, ask } = await startPeer();
    await expect(htabFdOfProcess(pid)).rejects.toMatchObject({ code: 'E_NO_HTAB_FD' });
    const fd = await ask<number>('file("x")');
    const other = htabFdOfProcess(pid, { fd });
    await expect(other).rejects.toMatchObject({ code: 'E_NOT_HTAB_FD' });
    await expect(htabFdOfProcess(2 ** 31 - 2)).rejects.toMatchObject({ code: 'E_IO' });
  });

  test('what a socket hands over', async () => {
    const { name, ask } = await startPeer();
    const before = descriptors().size;
    const receiving = receiveHtabFd(name);
    await ask('accept()');
    await ask('send("00", [0])');
    await expect(receiving).rejects.toMatchObject({ code: 'E_NOT_HTAB_FD' });
    expect(descriptors().size).toBe(before);
  });

  test('several descriptors at once, and a message without one', async () => {
    const { name, ask } = await startPeer();
    const before = descriptors().size;
    const several = receiveHtabFd(name);
    await ask('accept()');
    await ask('send("00", [0, 1])');
    await expect(several).rejects.toMatchObject({ code: 'E_HTAB_FD', actual: 'EBADMSG' });
    await expect(several).rejects.toThrow(/several came at once/);
    const none = receiveHtabFd(name);
    await ask('accept()');
    await ask('send("00", [])');
    await expect(none).rejects.toThrow(/a message came without one/);
    expect(descriptors().size).toBe(before);
  });

  test('a socket that closes, one that is not there, and one that stays silent', async () => {
    const { name, ask } = await startPeer();
    const before = descriptors().size;
    const receiving = receiveHtabFd(name);
    await ask('accept()');
    await ask('connection.close()');
    await expect(receiving).rejects.toThrow(/closed the connection/);
    const missing = receiveHtabFd(`${scratchFile('no')}-socket`);
    await expect(missing).rejects.toMatchObject({ code: 'E_IO', actual: 'ENOENT' });
    const controller = new AbortController();
    const silent = receiveHtabFd(name, { signal: controller.signal });
    await ask('accept()');
    controller.abort(new Error('enough'));
    await expect(silent).rejects.toMatchObject({ code: 'E_ABORTED', cause: { message: 'enough' } });
    expect(descriptors().size).toBe(before);
  });
});

test('without the addon, each says what is missing', async () => {
  vi.stubEnv('SPAPR_HTAB_NO_ADDON', '1');
  const calls = [openHtabFd(0), adoptHtabFd(0), htabFdOfProcess(1), receiveHtabFd('/x')];
  for (const call of calls) {
    await expect(call).rejects.toMatchObject({ code: 'E_NATIVE', name: 'UnsupportedError' });
  }
});

describe.runIf(LINUX)('a descriptor of the system', () => {
  test('carries out calls in their order, and closing waits for them', async () => {
    const { file, ask } = await handed('pair()');
    const { fd } = file;
    const descriptor = new NativeDescriptor(file);
    const reads = [descriptor.read(100), descriptor.read(100)];
    const writing = descriptor.writeBlocks(blocks([1, 1, 0], [5, 0, 3]));
    let closed = false;
    const closing = descriptor.close().then(() => {
      closed = true;
    });
    await expect(descriptor.read(1)).rejects.toMatchObject({ code: 'E_IO', actual: 'EBADF' });
    await ask('put("aa")');
    expect(Buffer.from((await reads[0]) ?? []).toString('hex')).toBe('aa');
    expect(closed).toBe(false);
    expect(descriptors().has(fd)).toBe(true);
    await ask('put("bb")');
    expect(Buffer.from((await reads[1]) ?? []).toString('hex')).toBe('bb');
    expect(await writing).toEqual({ blocks: 2, bytes: 32, errno: undefined });
    await closing;
    expect(descriptors().has(fd)).toBe(false);
    await descriptor.close();
    expect((await ask<string[]>('got(2)')).map(({ length }) => length / 2)).toEqual([24, 8]);
  });

  test('errors have the name of their errno', async () => {
    const { file } = await handed('pipe(0)');
    const descriptor = new NativeDescriptor(file);
    await expect(descriptor.write(new Uint8Array(8))).rejects.toMatchObject({
      code: 'E_HTAB_FD',
      actual: 'EBADF',
    });
    const written = await descriptor.writeBlocks(blocks([1, 0, 2]));
    expect(written).toEqual({ blocks: 0, bytes: 0, errno: 'EBADF' });
    await descriptor.close();
  });
});
