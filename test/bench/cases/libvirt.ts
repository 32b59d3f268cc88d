import { makeLibvirt } from '../../container/make-libvirt.js';
import type { Case, Size, Workshop, Yardstick } from '../case.js';
import { writeStream } from '../inputs/stream.js';
import { requireProgram } from '../programs.js';
import { convertOf, expectedKernel, guestOf, rawSnapshot } from './snapshot.js';

interface Format {
  readonly name: 'raw' | 'gzip' | 'zstd';
  /** Its number in the header (src/qemu/qemu_saveimage.h virQEMUSaveFormat). */
  readonly number: number;
  readonly compress?: readonly string[];
  readonly decompress: readonly [string, ...string[]];
  /** Times the time of what it is compared with. */
  readonly limit: number;
}

/** The programs as libvirt calls them, with their default level. */
const FORMATS: readonly Format[] = [
  { name: 'raw', number: 0, decompress: ['cat'], limit: 1 },
  {
    name: 'gzip',
    number: 1,
    compress: ['gzip', '-c'],
    decompress: ['gzip', '-dc'],
    limit: 1.1,
  },
  {
    name: 'zstd',
    number: 5,
    compress: ['zstd', '-cq'],
    decompress: ['zstd', '-dcq'],
    limit: 1.1,
  },
];

/** Save images of libvirt, by bytes of RAM: the HPT out of each. */
export function libvirtCases(rams: readonly number[]): Case[] {
  return FORMATS.map((format) => ({
    name: `convert, libvirt ${format.name}`,
    group: 'libvirt',
    sizes: rams.map((ram) => sizeOf(format, ram)),
  }));
}

function sizeOf(format: Format, ram: number): Size {
  return {
    label: ram >= 2 ** 30 ? `${ram / 2 ** 30} GiB RAM` : `${ram / 2 ** 20} MiB RAM`,
    amount: ram,
    outputBytes: ram / 256,
    prepare: async (shop) => {
      requireProgram(format.decompress[0]);
      const head = makeLibvirt({ format: format.number, cookie: '<cookie/>', padding: 65_536 });
      const path = await image(shop, format, head, ram);
      const guest = guestOf(ram);
      const kernel = expectedKernel(shop, guest, `raw-${ram / 2 ** 20}`);
      const yardstick: Yardstick = {
        name: format.decompress[0],
        run: { command: format.decompress, input: { path, offset: head.length } },
        limit: format.limit,
      };
      return { ...convertOf(shop, { path, kernel, guest }), against: [yardstick] };
    },
  };
}

async function image(shop: Workshop, format: Format, head: Buffer, ram: number): Promise<string> {
  const name = `libvirt-${format.name}-${ram / 2 ** 20}.save`;
  if (format.compress === undefined) {
    return shop.inputs.make(name, ram * 0.52, (out) => {
      out.put(head);
      writeStream(out, guestOf(ram));
    });
  }
  const { path } = rawSnapshot(shop, ram);
  return shop.inputs.pipe(name, head, format.compress, path, ram * 0.52);
}
