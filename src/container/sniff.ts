/** Containers that can be opened. */
export type OpenableKind =
  | 'stream'
  | 'libvirt'
  | 'qcow2'
  | 'gzip'
  | 'bzip2'
  | 'xz'
  | 'zstd'
  | 'lz4'
  | 'lzop';

/** Files that are recognised only so that the refusal can say what they are. */
export type RefusedKind =
  | 'elf'
  | 'kdump'
  | 'vmdk'
  | 'vdi'
  | 'vhd'
  | 'vhdx'
  | 'luks'
  | 'qed'
  | 'qcow'
  | 'parallels'
  | 'zip';

export type ContainerKind = OpenableKind | RefusedKind;

/** How many bytes of a file {@link sniffContainer} looks at. */
export const SNIFF_LENGTH = 128;

interface Magic {
  readonly kind: ContainerKind;
  readonly bytes: Uint8Array;
  /** Where the bytes stand. Default 0. */
  readonly at?: number;
}

/**
 * A magic in readable form: one letter a byte (latin1). All of QEMU's own are in its block drivers'
 * probe functions (block/*.c, QEMU 10.2), those of compressors in the file formats' documents.
 */
function magic(kind: ContainerKind, text: string, at = 0): Magic {
  return { kind, bytes: Buffer.from(text, 'latin1'), at };
}

const MAGICS: readonly Magic[] = [
  magic('stream', 'QEVM'),
  // src/qemu/qemu_saveimage_format.h, libvirt: complete, and while it is being written.
  magic('libvirt', 'LibvirtQemudSave'),
  magic('libvirt', 'LibvirtQemudPart'),
  // Version 1 is another format, with the same magic.
  magic('qcow', 'QFI\xfb\0\0\0\x01'),
  magic('qcow2', 'QFI\xfb'),
  magic('gzip', '\x1f\x8b\x08'),
  ...Array.from({ length: 9 }, (_, level) => [
    magic('bzip2', `BZh${level + 1}1AY&SY`),
    magic('bzip2', `BZh${level + 1}\x17rE8P\x90`),
  ]).flat(),
  magic('xz', '\xfd7zXZ\0'),
  magic('zstd', '\x28\xb5\x2f\xfd'),
  magic('lz4', '\x04\x22\x4d\x18'),
  magic('lz4', '\x02\x21\x4c\x18'),
  magic('lzop', '\x89LZO\0\r\n\x1a\n'),
  magic('elf', '\x7fELF'),
  magic('kdump', 'KDUMP   '),
  magic('kdump', 'DISKDUMP'),
  magic('kdump', 'makedumpfile\0'),
  magic('vmdk', 'KDMV'),
  magic('vmdk', 'COWD'),
  magic('vmdk', '# Disk DescriptorFile'),
  magic('vdi', '\x7f\x10\xda\xbe', 0x40),
  magic('vdi', '\xbe\xda\x10\x7f', 0x40),
  magic('vhdx', 'vhdxfile'),
  magic('vhd', 'conectix'),
  magic('luks', 'LUKS\xba\xbe'),
  magic('qed', 'QED\0'),
  magic('parallels', 'WithoutFreeSpace'),
  magic('parallels', 'WithouFreSpacExt'),
  magic('zip', 'PK\x03\x04'),
];

/**
 * What a file is, by its first bytes alone (at most {@link SNIFF_LENGTH} are looked at): never by
 * its name, and never by guessing. Undefined for everything that has no magic, such as the HTAB
 * formats of this package.
 */
export function sniffContainer(head: Uint8Array): ContainerKind | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  for (const { kind, bytes: wanted, at = 0 } of MAGICS) {
    if (bytes.subarray(at, at + wanted.length).equals(wanted)) return kind;
  }
  return undefined;
}

/** What a refused file is, and what to do about it. */
export const REFUSALS: Readonly<Record<RefusedKind, string>> = {
  elf: 'an ELF file: a memory dump holds no device state, and so no hash page table; save the guest with `virsh save` or `migrate` instead',
  kdump:
    'a compressed kernel dump, which holds no device state, and so no hash page table; save the guest with `virsh save` or `migrate` instead',
  vmdk: 'a VMware disk image, which can hold no VM state of QEMU',
  vdi: 'a VirtualBox disk image, which can hold no VM state of QEMU',
  vhd: 'a VHD disk image, which can hold no VM state of QEMU',
  vhdx: 'a VHDX disk image, which can hold no VM state of QEMU',
  luks: 'an encrypted LUKS volume; open it first, for example with `cryptsetup open`',
  qed: 'a QED disk image, which can hold no VM state',
  qcow: 'a qcow image of version 1, which can hold no VM state; only qcow2 has internal snapshots',
  parallels: 'a Parallels disk image, which can hold no VM state of QEMU',
  zip: 'a zip archive; unpack it first',
};
