import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, closeSync, copyFileSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import { describe, expect, onTestFinished, test } from 'vitest';
import { loadAddon, type NativeFile } from '../../src/addon/load.js';
import { scratch, scratchFile } from '../helpers/sources.js';
import { connectedPeer, descriptors, htab, LINUX, opened, startPeer, until } from './support.js';

const {
  EAGAIN,
  EBADF,
  EBADMSG,
  ECONNREFUSED,
  ECONNRESET,
  EINVAL,
  EMFILE,
  ENAMETOOLONG,
  ENOENT,
  ENOMSG,
  ENOTSOCK,
  EPERM,
  ESRCH,
} = constants.errno;

const text = async (file: NativeFile) => Buffer.from((await file.read(100)).bytes).toString();
/** O_CLOEXEC, in octal. */
const closedOnExec = ({ fd }: NativeFile) =>
  (Number.parseInt(
    /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '',
    8,
  ) &
    0o2000000) !==
  0;

describe.runIf(LINUX)('duplicate', () => {
  test('leaves the number of the caller alone, and no child inherits it', async () => {
    const path = scratchFile('in', Buffer.from('duplicate'));
    const fd = openSync(path, 'r');
    const file = opened(htab().duplicate(fd));
    expect(file.fd).toBeGreaterThan(2);
    expect(file.fd).not.toBe(fd);
    expect(descriptors().get(file.fd)).toBe(path);
    expect(closedOnExec(file)).toBe(true);
    closeSync(fd);
    expect(await text(file)).toBe('duplicate');
  });

  test('says what is not open', () => {
    expect(htab().duplicate(2 ** 31 - 1)).toEqual({ errno: EBADF });
  });
});

describe.runIf(LINUX)('take', () => {
  test("gives another process' descriptor, which is the same file", async () => {
    const { pid, ask } = await startPeer();
    const fd = await ask<number>('file("taken")');
    expect(await ask(`os.lseek(${fd}, 2, 0)`)).toBe(2);
    const file = opened(htab().take(pid, fd));
    expect(closedOnExec(file)).toBe(true);
    expect(await text(file)).toBe('ken');
    expect(await ask(`os.lseek(${fd}, 0, 1)`)).toBe(5);
    // It outlives the other's.
    await ask(`os.close(${fd})`);
    expect(htab().take(pid, fd)).toEqual({ errno: EBADF });
    expect(descriptors().get(file.fd)).toContain('memfd:kept');
  });

  test('says what is not there', async () => {
    const { pid } = await startPeer();
    const before = descriptors().size;
    expect(htab().take(pid, 2 ** 31 - 1)).toEqual({ errno: EBADF });
    const { pid: gone } = spawnSync('true');
    expect(htab().take(gone, 0)).toEqual({ errno: ESRCH });
    expect(htab().take(0, 0)).toEqual({ errno: EINVAL });
    expect(descriptors().size).toBe(before);
  });

  test.runIf(process.getuid?.() === 0)('says when it is not allowed', async () => {
    const { path } = loadAddon();
    const copy = scratchFile('addon.node');
    chmodSync(scratch(), 0o755);
    copyFileSync(path ?? '', copy);
    chmodSync(copy, 0o755);
    const script = `console.log(require(process.argv[1]).htab.take(process.ppid, 0).errno)`;
    const other = spawn(process.execPath, ['-e', script, copy], { uid: 65534, cwd: '/' });
    let said = '';
    other.stdout.on('data', (data) => {
      said += data;
    });
    await new Promise((resolve) => other.once('close', resolve));
    expect(said.trim()).toBe(String(EPERM));
  });
});

describe.runIf(LINUX)('connect', () => {
  test.each([
    ['a stream', 'stream', undefined],
    ['a seqpacket socket', 'seqpacket', undefined],
    ['an abstract name', 'stream', `@spapr-htab-test-${process.pid}`],
    ['the longest abstract name', 'stream', `@${`${process.pid}-`.padEnd(106, 'x')}`],
  ])('reaches %s', async (_, type, name) => {
    const { socket, ask } = await connectedPeer(name, type);
    expect(closedOnExec(socket)).toBe(true);
    const fd = await ask<number>('file("reached")');
    await ask(`[send("00", [${fd}]), os.lseek(${fd}, 0, 0)]`);
    expect(await text(opened(htab().receive(socket)))).toBe('reached');
  });

  test('reaches the longest path', async () => {
    const name = `/tmp/spapr-htab-${process.pid}-`.padEnd(107, 'x');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(name, resolve));
    onTestFinished(() => void server.close());
    opened(htab().connect(name));
    expect(htab().connect(`${name}x`)).toEqual({ errno: ENAMETOOLONG });
  });

  test('does not wait for one who is busy', async () => {
    const { name, ask } = await startPeer();
    const before = descriptors().size;
    let connected = 0;
    for (;;) {
      const { file, errno } = htab().connect(name);
      if (file === undefined) {
        expect(errno).toBe(EAGAIN);
        break;
      }
      opened({ file, errno: 0 });
      connected++;
    }
    expect(connected).toBeGreaterThan(0);
    expect(descriptors().size).toBe(before + connected);
    await ask('accept()');
    opened(htab().connect(name));
  });

  test('says who does not listen, and what is no address', () => {
    const before = descriptors().size;
    const path = scratchFile('nobody');
    expect(htab().connect(path)).toEqual({ errno: ENOENT });
    expect(htab().connect(scratchFile('a-file', new Uint8Array()))).toEqual({
      errno: ECONNREFUSED,
    });
    expect(htab().connect('@spapr-htab-nobody')).toEqual({ errno: ECONNREFUSED });
    for (const name of ['', '@']) expect(htab().connect(name)).toEqual({ errno: EINVAL });
    for (const length of [108, 1023, 1024, 100_000]) {
      expect(htab().connect('x'.repeat(length))).toEqual({ errno: ENAMETOOLONG });
      expect(htab().connect('@'.repeat(length))).toEqual({ errno: ENAMETOOLONG });
    }
    expect(() => htab().connect('/tmp/a\0b')).toThrow(TypeError);
    expect(descriptors().size).toBe(before);
  });
});

describe.runIf(LINUX)('receive', () => {
  test('gives one descriptor after another, and waits for none', async () => {
    const { socket, ask } = await connectedPeer();
    expect(htab().receive(socket)).toEqual({ errno: EAGAIN });
    const [a, b] = [await ask<number>('file("a")'), await ask<number>('file("b")')];
    await ask(`[os.lseek(fd, 0, 0) for fd in (${a}, ${b})]`);
    await ask(`[send("00", [${a}]), send("${'77'.repeat(10)}", [${b}])]`);
    const files = [opened(htab().receive(socket)), opened(htab().receive(socket))];
    for (const file of files) expect(closedOnExec(file)).toBe(true);
    expect(await Promise.all(files.map(text))).toEqual(['a', 'b']);
    expect(htab().receive(socket)).toEqual({ errno: EAGAIN });
    await ask('connection.close()');
    expect(htab().receive(socket)).toEqual({ errno: ECONNRESET });
  });

  test.each([2, 3, 253])('takes none of %i that come at once, and keeps none', async (count) => {
    const { socket, ask } = await connectedPeer();
    const before = descriptors();
    await ask(`send("00", [0] * ${count})`);
    expect(htab().receive(socket)).toEqual({ errno: EBADMSG });
    expect([...descriptors().keys()]).toEqual([...before.keys()]);
    expect(htab().receive(socket)).toEqual({ errno: EAGAIN });
  });

  test('says when a message has none', async () => {
    const { socket, ask } = await connectedPeer();
    await ask('send("48656c6c6f", [])');
    expect(htab().receive(socket)).toEqual({ errno: ENOMSG });
    // Longer than what is read at a time.
    await ask(`send("${'00'.repeat(1000)}", [0])`);
    opened(htab().receive(socket));
  });

  test('takes one without a byte, where messages are kept apart', async () => {
    const { socket, ask } = await connectedPeer(undefined, 'seqpacket');
    await ask('send("", [0])');
    opened(htab().receive(socket));
  });

  test('says when there is no free number for it', async () => {
    const script = `
      const { htab } = require(process.argv[1]);
      const { openSync } = require('node:fs');
      const { file: socket } = htab.connect(process.argv[2]);
      console.log('connected');
      process.stdin.once('data', () => {
        const fds = [];
        try { for (;;) fds.push(openSync('/dev/null')); } catch {}
        const { errno } = htab.receive(socket);
        console.log(fds.length > 0, errno);
        process.exit();
      });`;
    const peer = await startPeer();
    const limited = 'ulimit -n 64; exec "$0" -e "$1" "$2" "$3"';
    const args = ['-c', limited, process.execPath, script, loadAddon().path ?? '', peer.name];
    const child = spawn('sh', args);
    let said = '';
    child.stdout.on('data', (data) => {
      said += data;
    });
    const ended = new Promise((resolve) => child.once('close', resolve));
    await until(() => said !== '');
    await peer.ask('[accept(), send("00", [0])]');
    child.stdin.write('go\n');
    await ended;
    expect(said).toBe(`connected\ntrue ${EMFILE}\n`);
  });

  test('wants a socket', () => {
    const fd = openSync('/dev/null', 'r');
    const file = opened(htab().duplicate(fd));
    closeSync(fd);
    expect(htab().receive(file)).toEqual({ errno: ENOTSOCK });
  });
});
