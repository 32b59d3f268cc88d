import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { constants, endianness } from 'node:os';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/addon/load.js';
import { addon } from '../bytes/support.js';
import { scratchFile } from '../helpers/sources.js';
import { htab, LINUX } from './support.js';

const { EBADF, ENOTTY } = constants.errno;

describe.runIf(LINUX)('open', () => {
  test('says what is no VM, and what is no descriptor', async () => {
    const fd = openSync('/dev/null', 'r');
    const asked = htab().open(fd, 0n, 2n ** 64n - 1n);
    // The number may go before the thread gets to it.
    closeSync(fd);
    expect(await asked).toEqual({ errno: ENOTTY });
    expect(await htab().open(fd, 3n, 0n)).toEqual({ errno: EBADF });
    expect(await htab().open(2 ** 31 - 1, 0n, 0n)).toEqual({ errno: EBADF });
  });

  test('asks by the number of this platform, for what it was told to', () => {
    expect(addon().probe().ioctl).toBe(process.arch === 'ppc64' ? 0x8020aeaa : 0x4020aeaa);
    const source = fileURLToPath(new URL('vm.cc', import.meta.url));
    const vm = scratchFile('vm.so');
    // A compiler does not expect a sanitizer beneath it.
    const { LD_PRELOAD, ...rest } = process.env;
    execFileSync('g++', ['-shared', '-fPIC', '-o', vm, source], { env: rest });
    const script = `
      const { htab } = require(process.argv[1]);
      const { readdirSync } = require('node:fs');
      const open = () => readdirSync('/proc/self/fd').length;
      (async () => {
        const before = open();
        const { file, errno } = await htab.open(0, 3n, 0x123456789abcdef0n);
        const { bytes } = await file.read(100);
        const one = open() - before;
        file.close();
        console.log(JSON.stringify([errno, Buffer.from(bytes).toString('hex'), one, open() - before]));
      })();`;
    const env = { ...rest, LD_PRELOAD: LD_PRELOAD ? `${LD_PRELOAD} ${vm}` : vm };
    const args = ['-e', script, loadAddon().path ?? ''];
    // struct kvm_get_htab_fd: u64 flags, u64 start_index, u64 reserved[2], in host order.
    const request = Buffer.alloc(32);
    if (endianness() === 'LE') {
      request.writeBigUInt64LE(3n, 0);
      request.writeBigUInt64LE(0x123456789abcdef0n, 8);
    } else {
      request.writeBigUInt64BE(3n, 0);
      request.writeBigUInt64BE(0x123456789abcdef0n, 8);
    }
    expect(JSON.parse(execFileSync(process.execPath, args, { env, encoding: 'utf8' }))).toEqual([
      0,
      request.toString('hex'),
      1,
      0,
    ]);
  });
});
