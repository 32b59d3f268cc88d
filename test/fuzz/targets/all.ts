import type { Target } from '../target.js';
import { archive } from './archive.js';
import { image, kernel, section } from './blocks.js';
import { compressed, libvirt, qcow2 } from './containers.js';
import { convert } from './convert.js';
import { rewrite } from './rewrite.js';
import { STAGED } from './staged.js';
import { check, devices, mapped, open, ram, stream, verify } from './streams.js';
import { dump, vmdesc } from './text.js';
import { xbzrle } from './xbzrle.js';

/** Every parser of the package. */
export const TARGETS: readonly Target[] = [
  kernel,
  section,
  image,
  archive,
  stream,
  ram,
  mapped,
  xbzrle,
  vmdesc,
  dump,
  devices,
  check,
  libvirt,
  qcow2,
  compressed,
  open,
  convert,
  rewrite,
  verify,
];

export function targetOf(name: string): Target {
  const found = [...TARGETS, ...STAGED].find((target) => target.name === name);
  if (found !== undefined) return found;
  const names = TARGETS.map((target) => target.name).join(', ');
  throw new Error(`there is no parser '${name}'; there are ${names}`);
}
