import { HEADER_LENGTH } from '../container/libvirt.js';
import { editLibvirtHeader, newLibvirtHeader } from '../container/libvirt-encode.js';
import { UsageError } from '../errors.js';
import { libvirtFormat, type Wrapping } from './wrapping.js';

export interface HeaderEdits {
  /** The domain's XML for a libvirt image. Default: the one that it has; a new image needs one. */
  readonly xml?: string | undefined;
  /**
   * Whether libvirt lets the guest go on after a restore. Default: as the image says; true for a new
   * one.
   */
  readonly running?: boolean | undefined;
}

/** As much XML as libvirt itself would read back. */
const MAX_XML = 16 * 1024 * 1024;

/**
 * What stands before the stream: nothing, or the header of a libvirt image.
 * @param before the header of the input, if it is such an image
 * @throws UsageError `E_USAGE`
 */
export function headerFor(
  wrapping: Wrapping,
  before: Buffer | undefined,
  { xml, running }: HeaderEdits,
): Buffer {
  if (wrapping.container === 'raw') {
    if (xml === undefined && running === undefined) return Buffer.alloc(0);
    throw new UsageError(
      'E_USAGE',
      'a raw stream has no place for the XML or the state of a domain; write a libvirt image',
    );
  }
  if (xml !== undefined) checkXml(xml);
  const format = libvirtFormat(wrapping.format);
  if (before !== undefined) return editLibvirtHeader(before, { format, running, xml });
  if (xml !== undefined) return newLibvirtHeader({ format, running, xml });
  throw new UsageError('E_USAGE', 'a new libvirt image needs the XML of its domain (--xml FILE)');
}

function checkXml(xml: string): void {
  if (/^\s*(<\?xml[^>]*>\s*)?(<!--[\s\S]*?-->\s*)*<domain[\s>]/.test(xml) && !xml.includes('\0')) {
    if (Buffer.byteLength(xml) <= MAX_XML) return;
    throw new UsageError('E_USAGE', 'the XML of the domain is too long', {
      expected: `at most ${MAX_XML} bytes`,
      actual: String(Buffer.byteLength(xml)),
    });
  }
  throw new UsageError('E_USAGE', 'this is not the XML of a domain', {
    expected: '<domain …>, as virsh dumpxml prints it',
  });
}

/**
 * The machine type in the XML of a libvirt image's header. libvirt starts QEMU with it and does not
 * look into the stream.
 */
export function machineOfXml(header: Buffer): string | undefined {
  return /<type\b[^>]*\bmachine=["']([^"']+)["']/.exec(
    header.toString('latin1', HEADER_LENGTH),
  )?.[1];
}
