import type { OperationOptions } from '../bytes/reader.js';
import { editLibvirtHeader, newLibvirtHeader } from '../container/libvirt-encode.js';
import { UsageError } from '../errors.js';
import { exceeded, type LimitOptions, limitsOf } from '../limits.js';
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

/**
 * What stands before the stream: nothing, or the header of a libvirt image.
 * @param before the header of the input, if it is such an image
 * @param edits the XML is one that {@link checkXml} takes
 * @throws UsageError `E_USAGE`; LimitError `E_LIMIT`
 */
export function headerFor(
  wrapping: Wrapping,
  before: Buffer | undefined,
  { xml, running, limits }: HeaderEdits & Pick<OperationOptions, 'limits'>,
): Buffer {
  if (wrapping.container === 'raw') {
    if (xml === undefined && running === undefined) return Buffer.alloc(0);
    throw new UsageError(
      'E_USAGE',
      'a raw stream has no place for the XML or the state of a domain; write a libvirt image',
    );
  }
  const format = libvirtFormat(wrapping.format);
  if (before !== undefined) return editLibvirtHeader(before, { format, running, xml, limits });
  if (xml !== undefined) return newLibvirtHeader({ format, running, xml });
  throw new UsageError('E_USAGE', 'a new libvirt image needs the XML of its domain (--xml FILE)');
}

/** @throws UsageError `E_USAGE` for what is not the XML of a domain; LimitError */
export function checkXml(xml: string, options?: LimitOptions): void {
  const limits = limitsOf(options);
  const actual = Buffer.byteLength(xml);
  if (actual > limits.libvirtBytes) {
    throw exceeded(limits, 'libvirtBytes', 'the XML of the domain is too long', { actual });
  }
  if (/^<domain[\s>]/.test(root(xml)) && !xml.includes('\0')) return;
  throw new UsageError('E_USAGE', 'this is not the XML of a domain', {
    expected: '<domain ...>, as virsh dumpxml prints it',
  });
}

/** The document from its root element on: behind the declaration and comments. */
function root(xml: string): string {
  let at = 0;
  for (;;) {
    while (/\s/.test(xml.charAt(at))) at++;
    const end = xml.startsWith('<?', at) ? '?>' : xml.startsWith('<!--', at) ? '-->' : undefined;
    const found = end === undefined ? -1 : xml.indexOf(end, at + 2);
    if (end === undefined || found < 0) return xml.slice(at, at + 32);
    at = found + end.length;
  }
}
