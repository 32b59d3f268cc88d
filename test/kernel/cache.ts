import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where what takes long to make is kept; not part of the repository. */
export const CACHE: string =
  process.env.SPAPR_HTAB_KERNEL_CACHE ??
  fileURLToPath(new URL('../.cache/kernel', import.meta.url));

const PART = '.part-';
const ABANDONED = 3_600_000;

/**
 * A folder of the cache that holds what `build` puts into it; built once for what it is made from.
 * It gets its name when it is whole, so a run that is killed leaves nothing that looks like it.
 */
export async function cached(
  name: string,
  madeFrom: readonly (string | Uint8Array)[],
  build: (folder: string) => Promise<void>,
  root: string = CACHE,
): Promise<string> {
  const hash = createHash('sha256');
  for (const part of madeFrom) hash.update(`${part.length}:`).update(part);
  const folder = join(root, `${name}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(folder)) return folder;
  await mkdir(root, { recursive: true });
  await removeAbandoned(root);
  const part = await mkdtemp(join(root, name + PART));
  try {
    await build(part);
    await rename(part, folder).catch((error: NodeJS.ErrnoException) => {
      // Another run was quicker, and made the same.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(part, { recursive: true, force: true });
  }
  return folder;
}

/** What runs that were killed have left. */
async function removeAbandoned(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    if (!name.includes(PART)) continue;
    const path = join(root, name);
    const info = await stat(path).catch(() => undefined);
    if (info !== undefined && Date.now() - info.mtimeMs > ABANDONED) {
      await rm(path, { recursive: true, force: true });
    }
  }
}
