import { close, constants, open } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';

/**
 * Opens a FIFO for reading. Nothing waits in a system call, where neither an AbortSignal nor the end
 * of the process could reach it: not for a writer, and not for its bytes. A FIFO that nobody has
 * opened for writing yet is not at its end.
 * @throws what Node's fs throws
 */
export async function openFifo(path: string): Promise<Readable> {
  const fd = await promisify(open)(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const socket = new Socket({ fd, readable: true, writable: false });
    // Who reads is told of an error in any case; before the first read nobody would be.
    socket.on('error', () => undefined);
    return socket;
  } catch (error) {
    // It was replaced by something else meanwhile.
    await promisify(close)(fd);
    throw error;
  }
}
