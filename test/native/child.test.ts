import {
  closeSync,
  constants as flags,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
} from 'node:fs';
import { constants } from 'node:os';
import { expect, test } from 'vitest';
import { pattern } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';
import { child, descriptors, LINUX, opened } from './support.js';

const { EBADF, ESPIPE } = constants.errno;

/** As fdinfo has them: the position, and the flags without what the kernel adds. */
function state(fd: number): { position: number; flags: number } {
  const text = readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1');
  const [, position, octal] = /pos:\s*(\d+)\s*flags:\s*(\d+)/.exec(text) ?? [];
  return { position: Number(position), flags: Number.parseInt(octal ?? '', 8) };
}

const CLOEXEC = 0o2000000;

test.runIf(LINUX)(
  'a file that is opened again has a position of its own, for reading',
  async () => {
    const fd = openSync(scratchFile('file', pattern(1000)), 'r+');
    try {
      readSync(fd, Buffer.alloc(10), 0, 10, null);
      const asked = child().reopen(fd, 700);
      const again = opened(await asked);
      expect((await again.read(1000)).bytes).toEqual(new Uint8Array(pattern(1000).subarray(700)));
      expect(state(fd).position).toBe(10);
      expect(state(again.fd).position).toBe(1000);
      expect(state(again.fd).flags & (flags.O_WRONLY | flags.O_RDWR)).toBe(0);
      expect(state(again.fd).flags & CLOEXEC).toBe(CLOEXEC);
      // Beyond the end there is nothing, as with any file.
      const beyond = opened(await child().reopen(fd, 2 ** 40));
      expect(await beyond.read(10)).toMatchObject({ bytes: new Uint8Array(0), errno: 0 });
    } finally {
      closeSync(fd);
    }
  },
);

test.runIf(LINUX)('what was closed meanwhile is opened again; what is no file is not', async () => {
  const before = descriptors().size;
  const fd = openSync(scratchFile('file', Buffer.from('abc')), 'r');
  const asked = child().reopen(fd, 1);
  closeSync(fd);
  const again = opened(await asked);
  expect(Buffer.from((await again.read(9)).bytes).toString()).toBe('bc');
  again.close();
  expect(await child().reopen(fd, 0)).toEqual({ errno: EBADF });
  const { readFd, writer } = child().pipe(4096);
  if (readFd === undefined) throw new Error('no pipe');
  writer.close();
  // To open it would wait for somebody who writes.
  expect(await child().reopen(readFd, 0)).toEqual({ errno: ESPIPE });
  closeSync(readFd);
  const folder = openSync('/', 'r');
  expect(await child().reopen(folder, 0)).toEqual({ errno: ESPIPE });
  closeSync(folder);
  expect(descriptors().size).toBe(before);
});

test.runIf(LINUX)('a pipe is one that no child inherits, of at least the usual size', async () => {
  const before = descriptors().size;
  for (const capacity of [0, 4096, 1 << 20, 2 ** 31 - 1]) {
    const { readFd, writer, errno } = child().pipe(capacity);
    if (readFd === undefined) throw new Error(`errno ${errno}`);
    expect(fstatSync(readFd).isFIFO()).toBe(true);
    for (const fd of [readFd, writer.fd]) expect(state(fd).flags & CLOEXEC).toBe(CLOEXEC);
    for (const fd of [readFd, writer.fd]) expect(state(fd).flags & flags.O_NONBLOCK).toBe(0);
    expect(await writer.write(Buffer.from('abc'))).toEqual({ count: 3, errno: 0 });
    writer.close();
    const bytes = Buffer.alloc(10);
    expect(readSync(readFd, bytes)).toBe(3);
    expect(readSync(readFd, bytes)).toBe(0);
    closeSync(readFd);
  }
  expect(descriptors().size).toBe(before);
});
