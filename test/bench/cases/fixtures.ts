import { fixture, load } from '../../helpers/fixtures.js';
import type { Case, Prepared, Size, Workshop } from '../case.js';
import { ours } from '../programs.js';
import { requireSame } from '../same-file.js';

/** Real streams of each kind with an HPT of their own, that the C program can walk. */
const STREAMS = ['qemu/linux-p8-live.mig.gz', 'qemu/slof-7.2.mig.gz'];
/** Another, of 259 MiB when it is unpacked. */
export const LARGE_STREAM = 'containers/mapped-ram.mig.gz';
/** What kvm-hv gave: of a table of 16 MiB with many entries. */
const KERNEL = { file: 'kvm/p8-many-after.htab.gz', order: 24 };

/** Real files. They are small: what is seen is what a call costs. */
export function fixtureCases(more: readonly string[] = []): Case[] {
  const streams = [...STREAMS, ...more].map((file) => one(file, (shop) => stream(shop, file)));
  return [...streams, one(KERNEL.file, kernel)];
}

function one(file: string, prepare: Size['prepare']): Case {
  const name = file.replace(/^.*\/|\.gz$/g, '');
  const bytes = fixture(file).bytes;
  const label = `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const size = { label, amount: bytes, outputBytes: 3 * bytes, prepare };
  return { name: `convert ${name}`, group: 'fixtures', sizes: [size] };
}

function unpack({ inputs }: Workshop, file: string): string {
  const bytes = load(fixture(file));
  return inputs.make(file.replaceAll('/', '-').replace(/\.gz$/, ''), bytes.length, (out) =>
    out.put(bytes),
  );
}

const START = { name: 'node -e 0', run: { command: [process.execPath, '-e', '0'] } };

function stream(shop: Workshop, file: string): Prepared {
  const path = unpack(shop, file);
  const [result, theirs] = [shop.output('ours.htab'), shop.output('theirs')];
  const program = { command: [shop.references.walk, path, theirs], output: theirs };
  return {
    ours: { command: ours('convert', path, '-o', result), output: result },
    against: [START, { name: 'C', run: program }],
    check: () => requireSame(result, theirs),
  };
}

function kernel(shop: Workshop): Prepared {
  const path = unpack(shop, KERNEL.file);
  const [result, theirs] = [shop.output('ours.section'), shop.output('theirs')];
  const order = String(KERNEL.order);
  const program = [shop.references.reframe, 'section', order, path, theirs];
  const options = ['--from', 'kernel', '--from-endian', 'little', '--order', order];
  return {
    ours: { command: ours('convert', path, '-o', result, ...options), output: result },
    against: [START, { name: 'C', run: { command: program, output: theirs } }],
    check: () => requireSame(result, theirs),
  };
}
