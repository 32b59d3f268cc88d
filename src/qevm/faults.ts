import { FormatError, UnsupportedError } from '../errors.js';
import type { SectionKind } from './elements.js';

/** One START comes first; QEMU itself would take a second one, but never writes it. */
export function misplacedPart(name: string, kind: SectionKind, offset: number): FormatError {
  return new FormatError('E_SECTION', `${name} has a ${kind} where none belongs`, {
    offset,
    path: name,
    expected: 'one START, then PART and END',
  });
}

/** The walk ended at a section that may hide the rest of what is wanted (`the HPT`). */
export function hiddenBehind(what: string, name: string, offset: number): UnsupportedError {
  return new UnsupportedError(
    'E_SECTION_LENGTH',
    `${what} may go on behind section '${name}', whose length is recorded nowhere; ` +
      'read the stream from a file instead of a pipe if it has a vmdescription',
    { offset },
  );
}
