import { gzipSync } from 'node:zlib';
import { fixture, load } from '../helpers/fixtures.js';
import { smallGuest } from '../helpers/stream.js';

/** What the command is told to do, and the files that it needs for that. */
export interface Scene {
  readonly name: string;
  /** In the folder of the scene. The first is the input. */
  readonly files: Readonly<Record<string, () => Uint8Array>>;
  /** With names of files in place of their paths, and OUTPUT for that of the output. */
  readonly args: readonly string[];
  /** Name of the output. */
  readonly output: string;
  /** Whether there is an output before, which is replaced. */
  readonly replaces: boolean;
  /** A file that passes for an HTAB fd: the command has it open as number 3. */
  readonly htab?: string;
  /** Whether it works only with the addon. Default false. */
  readonly native?: boolean;
}

const guest = () => load(fixture('qemu/linux-p8-paused.mig.gz'));
const blocks = () => load(fixture('kvm/h8-guest.htab.gz'));

/** One for each verb that writes a file, each way to write one, and each way to take its name. */
export const SCENES: readonly Scene[] = [
  {
    name: 'convert, a file replaced',
    files: { 'guest.mig': guest },
    args: ['convert', 'guest.mig', '-o', 'OUTPUT', '--force'],
    output: 'guest.htab',
    replaces: true,
  },
  {
    name: 'convert to an image, a new file',
    files: { 'guest.htab.gz': () => gzipSync(blocks()) },
    args: ['convert', 'guest.htab.gz', '-o', 'OUTPUT'],
    output: 'guest.img',
    replaces: false,
  },
  {
    name: 'rewrite, a file replaced',
    files: { 'guest.mig': guest },
    args: ['rewrite', 'guest.mig', '-o', 'OUTPUT', '--machine', 'pseries-7.1', '--force'],
    output: 'new.mig',
    replaces: true,
  },
  {
    name: 'rewrite in place',
    files: { 'guest.mig': smallGuest },
    args: ['rewrite', 'guest.mig', '-o', 'OUTPUT', '--machine', 'pseries-7.1', '--force'],
    output: 'guest.mig',
    replaces: true,
  },
  {
    name: 'rewrite with another HPT, compressed, a new file',
    files: { 'guest.mig': smallGuest, 'other.mig': smallGuest },
    args: 'rewrite guest.mig -o OUTPUT --htab other.mig --compact --compress gzip'.split(' '),
    output: 'new.save.gz',
    replaces: false,
  },
  {
    name: 'ram, a file replaced',
    files: { 'guest.mig': smallGuest },
    args: ['ram', 'guest.mig', '-o', 'OUTPUT', '--force'],
    output: 'guest.ram',
    replaces: true,
  },
  {
    name: 'capture, a file replaced',
    files: { htab: blocks },
    args: ['capture', '--fd', '3', '-o', 'OUTPUT', '--force'],
    output: 'guest.htab',
    replaces: true,
    htab: 'htab',
    native: true,
  },
  {
    name: 'capture by way of a temporary copy, a new file',
    files: { htab: blocks },
    args: ['capture', '--fd', '3', '-o', 'OUTPUT'],
    output: 'guest.section',
    replaces: false,
    htab: 'htab',
    native: true,
  },
];
