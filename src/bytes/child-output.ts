import { closeSync } from 'node:fs';
import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { loadAddon, type NativeFile } from '../addon/load.js';

/** Bytes that the kernel holds between the program and us, where it lets us have as many. */
const CAPACITY = 1024 * 1024;
/**
 * Bytes of one read, and how many reads are made ahead. Programs write 64 or 128 KiB at a time;
 * more memory would only drive other things out of the processor's caches.
 */
const PIECE = 128 * 1024;
const PIECES = 4;

interface Waiting {
  resolve(result: IteratorResult<Uint8Array, undefined>): void;
  reject(error: Error): void;
}

/**
 * A pipe that a program writes to, as its standard output, and that is read ahead. The event loop
 * reads what is there: neither it nor a thread of the pool ever waits for the program.
 *
 * Node's own pipes to a program are sockets, of which each read takes 64 KiB of new memory.
 */
export class ChildOutput implements AsyncIterableIterator<Uint8Array, undefined> {
  readonly #writer: NativeFile;
  readonly #socket: Socket;
  /** Used in turn. */
  readonly #memory = Array.from({ length: PIECES }, () => Buffer.allocUnsafeSlow(PIECE));
  #turn = 0;
  /** What was read and not yet handed out, in order. */
  readonly #pieces: Uint8Array[] = [];
  /** Whether a piece was handed out that is still in use. */
  #inUse = false;
  #waiting: Waiting | undefined;
  #ended = false;
  #failure: Error | undefined;

  private constructor(fd: number, writer: NativeFile) {
    this.#writer = writer;
    // Where there is no memory left, the socket is paused: it only keeps what it was given.
    const options: SocketConstructorOpts & ConnectOpts = {
      fd,
      readable: true,
      writable: false,
      onread: {
        buffer: () => this.#memory[this.#turn++ % PIECES] as Buffer,
        callback: (count, memory) => this.#take(memory.subarray(0, count)),
      },
    };
    this.#socket = new Socket(options);
    this.#socket.once('end', () => {
      this.#ended = true;
      this.#answer();
    });
    this.#socket.on('error', (error) => {
      this.#failure ??= error;
    });
    this.#socket.once('close', () => {
      if (!this.#ended) this.#failure ??= new Error('the pipe was closed before its end');
      this.#answer();
    });
  }

  /** Undefined without the addon, or where there are no more descriptors to be had. */
  static open(): ChildOutput | undefined {
    const { readFd, writer } = loadAddon().addon?.child?.pipe(CAPACITY) ?? {};
    if (readFd === undefined || writer === undefined) return undefined;
    try {
      return new ChildOutput(readFd, writer);
    } catch (error) {
      closeSync(readFd);
      writer.close();
      throw error;
    }
  }

  /** What the program is to be given. */
  get fd(): number {
    return this.#writer.fd;
  }

  /** To be called when the program has it: the end comes when nobody is left who could write. */
  started(): void {
    this.#writer.close();
  }

  /** The next bytes, which are valid until the next call. One call at a time. */
  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#inUse = false;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#answer();
      if (this.#free > 0) this.#socket.resume();
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  destroy(): void {
    this.#writer.close();
    this.#socket.destroy();
  }

  get #free(): number {
    return PIECES - this.#pieces.length - (this.#inUse ? 1 : 0);
  }

  /** Whether to go on reading: false when all memory is in use. */
  #take(piece: Uint8Array): boolean {
    this.#pieces.push(piece);
    this.#answer();
    return this.#free > 0;
  }

  #answer(): void {
    if (this.#waiting === undefined) return;
    const { resolve, reject } = this.#waiting;
    const piece = this.#pieces.shift();
    if (piece !== undefined) {
      this.#inUse = true;
      resolve({ value: piece, done: false });
    } else if (this.#failure !== undefined) {
      reject(this.#failure);
    } else if (this.#ended) {
      resolve({ value: undefined, done: true });
    } else {
      return;
    }
    this.#waiting = undefined;
  }
}
