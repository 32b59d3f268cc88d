import { createHash, randomBytes } from 'node:crypto';
import { lstat, opendir, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { formatOwner, isGone, parseOwner, thisOwner } from './owner.js';

const SUFFIX = '.spapr-htab-tmp';
/**
 * Bytes of the target's name that are kept, for people. With the rest, some 90, the name fits into
 * the 255 that file systems allow, and the 143 of eCryptfs.
 */
const NAME_BYTES = 48;

/**
 * A name beside the target for the file that will become it:
 * `.NAME.<hash of the whole name>.<owner>.<random>.spapr-htab-tmp`.
 */
export async function temporaryName(target: string): Promise<string> {
  const random = randomBytes(6).toString('hex');
  const owner = formatOwner(await thisOwner());
  return join(dirname(target), `${prefixOf(target)}${owner}.${random}${SUFFIX}`);
}

/**
 * Removes the temporary files of this target that runs left behind which were killed, of those only
 * that are certain to be: see {@link isGone}. Never fails: what cannot be removed stays.
 */
export async function removeStale(target: string): Promise<void> {
  try {
    const folder = dirname(target);
    const prefix = prefixOf(target);
    const self = await thisOwner();
    for await (const { name } of await opendir(folder)) {
      if (!name.startsWith(prefix) || !name.endsWith(SUFFIX)) continue;
      const [tag = '', random = '', ...rest] = name.slice(prefix.length, -SUFFIX.length).split('.');
      const owner = parseOwner(tag);
      if (owner === undefined || rest.length > 0 || !/^[0-9a-f]{12}$/.test(random)) continue;
      const path = join(folder, name);
      if ((await isOurs(path)) && (await isGone(owner, self))) {
        await unlink(path).catch(() => undefined);
      }
    }
  } catch {
    // The folder cannot be listed: whether it can be written shows soon enough.
  }
}

/** A regular file of this user. */
async function isOurs(path: string): Promise<boolean> {
  const stat = await lstat(path).catch(() => undefined);
  if (stat === undefined || !stat.isFile()) return false;
  return process.geteuid === undefined || stat.uid === process.geteuid();
}

function prefixOf(target: string): string {
  // As a folder will list it: what is no Unicode is replaced.
  const name = Buffer.from(basename(target)).toString();
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 16);
  return `.${cut(name, NAME_BYTES)}.${hash}.`;
}

/** At most so many bytes of UTF-8, and no part of a character. */
function cut(name: string, limit: number): string {
  let length = 0;
  let text = '';
  for (const character of name) {
    length += Buffer.byteLength(character);
    if (length > limit) break;
    text += character;
  }
  return text;
}
