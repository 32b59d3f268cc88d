// What the builds here share that are made beside the usual one, which others may be using.
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** This folder, with a `/` at its end. */
export const native = fileURLToPath(new URL('.', import.meta.url));

/** Copies what node-gyp builds from; `edit` may add to the targets. */
export function copySources(folder, edit = (targets) => targets) {
  cpSync(join(native, 'src'), join(folder, 'src'), { recursive: true });
  // JSON but for its comments.
  const text = readFileSync(join(native, 'binding.gyp'), 'utf8').replace(/^\s*#.*$/gm, '');
  const { targets } = JSON.parse(text);
  writeFileSync(join(folder, 'binding.gyp'), JSON.stringify({ targets: edit(targets) }));
}

/** For node-gyp: the headers beside this Node, if they are there. It downloads them otherwise. */
export function headers() {
  const folder = resolve(process.execPath, '..', '..');
  const found = existsSync(join(folder, 'include', 'node', 'node_api.h'));
  return process.env.npm_config_nodedir || !found ? {} : { npm_config_nodedir: folder };
}
