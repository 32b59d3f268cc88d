import type { ByteSource } from '../bytes/source.js';
import { UnsupportedError } from '../errors.js';
import type { HtabItem } from '../htab/items.js';
import { SECTION_NAME, SectionDecoder, type SectionOptions } from '../htab/section.js';
import type {
  Configuration,
  PayloadContext,
  PayloadWalker,
  StreamWarning,
} from '../qevm/elements.js';
import { hiddenBehind, misplacedPart } from '../qevm/faults.js';
import { readStream, type StreamOptions } from '../qevm/stream.js';

/** Version of `spapr/htab` since QEMU 1.6 (hw/ppc/spapr.c, register_savevm_live). */
const SECTION_VERSION = 1;

/** What is said of streams with the mistake that QEMU 2.3 mended. */
export const LITTLE_ENDIAN =
  'the chunk headers are little-endian, as QEMU up to 2.2 wrote them on little-endian KVM hosts; ' +
  'QEMU itself would not load this, and output has them the right way round';

/** A walker for `spapr/htab` payloads; one for each stream, as it remembers the order. */
export function htabWalker(options: SectionOptions = {}): PayloadWalker<HtabItem> {
  let warn: PayloadContext['warn'] | undefined;
  const decoder = new SectionDecoder({
    ...options,
    onLittleEndian: (offset) => {
      options.onLittleEndian?.(offset);
      warn?.({ code: 'W_HTAB', offset, message: LITTLE_ENDIAN });
    },
  });
  return async function* (reader, context) {
    const { section } = context;
    warn = context.warn;
    if (section.version !== SECTION_VERSION) {
      throw new UnsupportedError('E_UNSUPPORTED', 'this version of the section is not known', {
        offset: reader.offset,
        path: SECTION_NAME,
        expected: `version ${SECTION_VERSION}`,
        actual: String(section.version),
      });
    }
    yield* decoder.payload(reader);
  };
}

export interface SnapshotHtabOptions extends StreamOptions, SectionOptions {
  readonly onWarning?: ((warning: StreamWarning) => void) | undefined;
  readonly onConfiguration?: ((configuration: Configuration) => void) | undefined;
}

/**
 * The HPT of a stream, as its `spapr/htab` sections say it, part by part. The whole stream is
 * walked, so that damage behind the HPT does not go unseen.
 * @throws UnsupportedError `E_NO_SECTION` when the stream is not of a pseries guest, or cannot be
 *   walked as far as the end of its HPT (`E_SECTION_LENGTH`)
 */
export async function* readSnapshotHtab(
  source: ByteSource,
  options: SnapshotHtabOptions = {},
): AsyncGenerator<HtabItem> {
  const walker = htabWalker(options);
  let parts = 0;
  let ended = false;
  let last = options.start ?? 0;
  const walkers = new Map([[SECTION_NAME, walker as PayloadWalker<unknown>]]);
  for await (const event of readStream(source, { ...options, walkers })) {
    switch (event.type) {
      case 'configuration':
        options.onConfiguration?.(event.configuration);
        break;
      case 'warning':
        options.onWarning?.(event.warning);
        break;
      case 'section':
        last = event.offset;
        if (event.section.name !== SECTION_NAME) break;
        if ((parts === 0) !== (event.kind === 'start'))
          throw misplacedPart(SECTION_NAME, event.kind, event.offset);
        yield* event.read(walker);
        parts++;
        ended ||= event.kind === 'end';
        break;
      case 'opaque':
        if (!ended) throw hiddenBehind('the HPT', event.section.name, event.offset);
        break;
    }
  }
  if (parts === 0) throw noSection(last);
}

function noSection(offset: number): UnsupportedError {
  return new UnsupportedError(
    'E_NO_SECTION',
    `the stream has no section ${SECTION_NAME}: it is not of a pseries guest`,
    { offset },
  );
}
