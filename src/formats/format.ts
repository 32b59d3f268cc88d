import { extname } from 'node:path';

/** Ways to keep an HPT in a file. */
export const HPT_FORMATS = ['kernel', 'section', 'image', 'archive'] as const;
export type HptFormat = (typeof HPT_FORMATS)[number];

/** What an HPT can be read from: a file of its own, or a guest's snapshot. */
export const INPUT_FORMATS = ['snapshot', ...HPT_FORMATS] as const;
export type InputFormat = (typeof INPUT_FORMATS)[number];

const EXTENSIONS: Readonly<Record<string, HptFormat | undefined>> = {
  '.htab': 'kernel',
  '.section': 'section',
  '.img': 'image',
  '.msgpack': 'archive',
};

/** The output format that a path's extension stands for. */
export function formatOfPath(path: string): HptFormat | undefined {
  return EXTENSIONS[extname(path).toLowerCase()];
}

/** What each format is, for messages. */
export const FORMAT_NAMES: Readonly<Record<InputFormat, string>> = {
  snapshot: 'QEMU snapshot',
  kernel: 'kernel HTAB blocks',
  section: 'spapr/htab section payloads',
  image: 'flat HPT image',
  archive: 'MessagePack HPT archive',
};
