import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

/** What the machine needs of the kernel that may be a module. */
const WANTED = [
  'virtio_pci',
  'virtio_blk',
  '9pnet_virtio',
  '9p',
  'crc32c_generic',
  'ext4',
  'kvm-hv',
];

/**
 * Files of the modules that are wanted and of those they depend on, in an order in which insmod takes
 * them. Each module names what it depends on in its section .modinfo, so depmod is not needed.
 *
 * @param folder lib/modules/VERSION of an unpacked package
 */
export async function modulesInOrder(folder: string): Promise<string[]> {
  const builtIn = new Set<string>();
  const files = new Map<string, string>();
  for (const line of (await readFile(join(folder, 'modules.builtin'), 'utf8')).split('\n')) {
    builtIn.add(moduleName(line));
  }
  const below = await readdir(folder, { recursive: true });
  for (const path of below) if (path.endsWith('.ko')) files.set(moduleName(path), path);

  const order: string[] = [];
  const visit = async (name: string): Promise<void> => {
    const file = files.get(name);
    if (file === undefined) {
      if (builtIn.has(name)) return;
      throw new Error(`the kernel of ${folder} has no module ${name}`);
    }
    const path = join(folder, file);
    if (order.includes(path)) return;
    for (const dependency of dependsOn(await readFile(path))) await visit(dependency);
    order.push(path);
  };
  for (const name of WANTED) await visit(name.replaceAll('-', '_'));
  return order;
}

/** As modules call each other: `kvm_hv` of `…/kvm-hv.ko`. */
function moduleName(path: string): string {
  return basename(path, '.ko').replaceAll('-', '_');
}

function dependsOn(module: Buffer): string[] {
  const key = Buffer.from('\0depends=');
  const start = module.indexOf(key);
  if (start < 0) return [];
  const from = start + key.length;
  const names = module.toString('latin1', from, module.indexOf(0, from));
  return names.split(',').filter(Boolean).map(moduleName);
}
