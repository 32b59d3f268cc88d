import type { Readable, Writable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { type ByteSink, PipeSink } from '../bytes/sink.js';
import { IoError, ioError } from '../errors.js';
import type { CompressionKind } from './decompress.js';
import { collect, EXTERNAL, type ExternalKind, startProgram } from './external.js';

/** What it takes to have bytes compressed. */
interface Compressor {
  readonly input: Writable;
  readonly output: Readable;
  /** To be called at the end of the output: throws when not all went well. */
  check(): Promise<void>;
  /** Ends everything, whatever its state. */
  end(): Promise<void>;
}

/**
 * A sink whose bytes come out compressed at the end of another: gzip by Node's zlib, the others by
 * the programs and with the options that libvirt uses (src/qemu/qemu_saveimage.c
 * qemuSaveImageGetCompressionProgram, libvirt 11.3). `finish` it; positions are those before
 * compression.
 */
export class CompressedSink extends PipeSink implements AsyncDisposable {
  readonly #compressor: Compressor;
  /** Takes the output while input is given; settles when the output has ended. */
  readonly #pump: Promise<void>;
  #failure: unknown;

  private constructor(compressor: Compressor, out: ByteSink) {
    super({ write: (bytes) => this.#write(bytes) });
    this.#compressor = compressor;
    this.#pump = pump(compressor, out);
    this.#pump.catch((error: unknown) => {
      this.#failure = error;
      // Whoever waits for room in the input waits no longer.
      compressor.input.destroy();
    });
  }

  /** @throws UnsupportedError `E_PROGRAM_MISSING` when the program is not installed */
  static async open(kind: CompressionKind, out: ByteSink): Promise<CompressedSink> {
    return new CompressedSink(kind === 'gzip' ? gzip() : await program(kind), out);
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const { input } = this.#compressor;
    // Called when the bytes are taken, and may be reused.
    const taken = new Promise<void>((resolve, reject) => {
      input.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
    taken.catch(() => undefined);
    try {
      // A compressor that is destroyed while it waits for room never answers.
      await Promise.race([taken, this.#pump.then(() => taken)]);
    } catch (error) {
      // An input that closes is a consequence: what the output says comes first.
      await this.#pump;
      throw ioError(error, 'compress', 'the stream');
    }
  }

  /** To be called behind the last byte. @throws IoError when the program or the sink failed */
  async finish(): Promise<void> {
    if (this.#failure === undefined) this.#compressor.input.end();
    await this.#pump;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#compressor.end();
    await this.#pump.catch(() => undefined);
  }
}

async function pump({ output, check }: Compressor, out: ByteSink): Promise<void> {
  for await (const piece of output) await out.append(piece as Uint8Array);
  await check();
}

function gzip(): Compressor {
  const gzip = createGzip({ chunkSize: 256 * 1024 });
  return {
    input: gzip,
    output: gzip,
    check: () => Promise.resolve(),
    end: () => {
      gzip.destroy();
      return Promise.resolve();
    },
  };
}

async function program(kind: ExternalKind): Promise<Compressor> {
  const external = EXTERNAL[kind];
  const { child, ended } = await startProgram(external, external.compress, `the format ${kind}`);
  const complaint = collect(child.stderr);
  // A program that ends early closes its input; its exit status says why.
  child.stdin.on('error', () => {});
  return {
    input: child.stdin,
    output: child.stdout,
    check: async () => {
      const status = await ended;
      if (status === 'exit status 0') return;
      const text = complaint.text();
      throw new IoError('E_IO', `${external.program} could not compress the stream`, {
        actual: text === '' ? status : `${status}: ${text}`,
      });
    },
    end: async () => {
      child.kill('SIGKILL');
      child.stdin.destroy();
      child.stdout.destroy();
      child.stderr.destroy();
      await ended;
    },
  };
}
