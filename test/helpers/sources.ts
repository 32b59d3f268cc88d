import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BufferSource, type ByteSource, IterableSource, openFile } from 'spapr-htab';
import { afterAll } from 'vitest';
import { random } from './random.js';

export { random };

let folder: string | undefined;
let made = 0;

// Here, and not where the folder is made: within a test it is too late to register anything.
afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

/** A folder for this test file, removed at its end. */
export function scratch(): string {
  folder ??= mkdtempSync(join(tmpdir(), 'spapr-htab-test-'));
  return folder;
}

export function scratchFile(name: string, bytes?: Uint8Array): string {
  const path = join(scratch(), `${made++}-${name}`);
  if (bytes !== undefined) writeFileSync(path, bytes);
  return path;
}

function* pieces(bytes: Uint8Array, sizes: () => number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const size = sizes();
    yield bytes.slice(at, at + size);
    at += size;
  }
}

export interface SourceKind {
  readonly name: string;
  readonly open: (bytes: Uint8Array) => Promise<ByteSource>;
}

/** Every way in which bytes can come. A codec must not notice the difference. */
export const SOURCE_KINDS: readonly SourceKind[] = [
  { name: 'buffer', open: async (bytes) => new BufferSource(bytes) },
  { name: 'file', open: (bytes) => openFile(scratchFile('source', bytes)) },
  { name: 'pipe', open: async (bytes) => new IterableSource([bytes.slice()]) },
  {
    name: 'one byte at a time',
    open: async (bytes) => new IterableSource(pieces(bytes, () => 1)),
  },
  {
    name: 'random pieces',
    open: async (bytes) => {
      const next = random(bytes.length);
      return new IterableSource(pieces(bytes, () => 1 + Math.floor(next() * 5000)));
    },
  },
];

/** Runs a job on a source of that kind and closes it. */
export async function withSource<T>(
  { open }: Pick<SourceKind, 'open'>,
  bytes: Uint8Array,
  job: (source: ByteSource) => Promise<T>,
): Promise<T> {
  const source = await open(bytes);
  try {
    return await job(source);
  } finally {
    await source.close();
  }
}

export async function collect(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const part of parts) copies.push(Buffer.from(part));
  return Buffer.concat(copies);
}
