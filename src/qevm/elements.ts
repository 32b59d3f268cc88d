/**
 * The elements of a QEMU migration stream and what this package says about them
 * (migration/savevm.h QEMU_VM_*, migration/savevm.c; QEMU 10.2). All integers are big-endian.
 */

/** "QEVM". */
export const STREAM_MAGIC = 0x5145564d;
/** The only version in use since 2008 (QEMU_VM_FILE_VERSION). */
export const STREAM_VERSION = 3;

export const ELEMENT = {
  EOF: 0x00,
  START: 0x01,
  PART: 0x02,
  END: 0x03,
  FULL: 0x04,
  SUBSECTION: 0x05,
  VMDESCRIPTION: 0x06,
  CONFIGURATION: 0x07,
  COMMAND: 0x08,
  FOOTER: 0x7e,
} as const;

/** What a section element carries: the beginning, a round, the end of an iterable, or a device. */
export type SectionKind = 'start' | 'part' | 'end' | 'full';

export const SECTION_KINDS: Readonly<Record<number, SectionKind | undefined>> = {
  [ELEMENT.START]: 'start',
  [ELEMENT.PART]: 'part',
  [ELEMENT.END]: 'end',
  [ELEMENT.FULL]: 'full',
};

/** A section as its START or FULL element names it. */
export interface SectionIdentity {
  /** Chosen by the source, u32; PART, END and footers refer to it. */
  readonly id: number;
  /** idstr: `ram`, `spapr/htab`, or a device's path and name. */
  readonly name: string;
  /** Instance number, u32. */
  readonly instance: number;
  /** Version of the payload's format, u32. */
  readonly version: number;
}

/** `name` for messages, with the instance when there are several. */
export function describeSection(s: SectionIdentity): string {
  return `section '${s.name}'${s.instance === 0 ? '' : ` instance ${s.instance}`} (id ${s.id})`;
}

/** Names of commands by number; 8 and 9 meant something else in QEMU 3.0. */
export const COMMANDS: readonly string[] = [
  'INVALID',
  'OPEN_RETURN_PATH',
  'PING',
  'POSTCOPY_ADVISE',
  'POSTCOPY_LISTEN',
  'POSTCOPY_RUN',
  'POSTCOPY_RAM_DISCARD',
  'PACKAGED',
  'ENABLE_COLO',
  'POSTCOPY_RESUME',
  'RECV_BITMAP',
  'SWITCHOVER_START',
];

/** QEMU 3.0 had RECV_BITMAP as 9, where later ones have a command without data. */
export function commandName(command: number, length: number): string {
  if (command === 9 && length > 0) return 'RECV_BITMAP';
  return COMMANDS[command] ?? `UNKNOWN_${command}`;
}

/** The machine type and what was validated, from the configuration element. */
export interface Configuration {
  /** Position of the element's type byte. */
  readonly offset: number;
  /** Bytes of the element, its type byte included. */
  readonly length: number;
  /** Machine type, such as `pseries-7.2`. */
  readonly machine: string;
  /** Capabilities that change the format: `x-ignore-shared`, `mapped-ram`. */
  readonly capabilities: readonly string[];
  /** log2 of the target's page size, when recorded (never by ppc64). */
  readonly targetPageBits: number | undefined;
  /** The guest's UUID, when recorded. */
  readonly uuid: string | undefined;
}

/** Something that a reader should know but that did not stop the walk. */
export interface StreamWarning {
  readonly code:
    | 'W_VMDESC_MISSING'
    | 'W_VMDESC_DAMAGED'
    | 'W_LENGTH_BY_FOOTER'
    | 'W_LENGTH_GUESSED'
    | 'W_OPAQUE_REST'
    | 'W_TRAILING'
    | 'W_UNKNOWN_COMMAND'
    | 'W_POSTCOPY'
    | 'W_ZERO_FILL'
    | 'W_HTAB';
  readonly offset: number;
  readonly message: string;
}

export type StreamEvent =
  | { readonly type: 'header'; readonly offset: number; readonly version: number }
  | { readonly type: 'configuration'; readonly configuration: Configuration }
  | SectionEvent
  | {
      readonly type: 'section-end';
      readonly section: SectionIdentity;
      readonly kind: SectionKind;
      readonly offset: number;
      readonly payloadOffset: number;
      /** Bytes of the payload, without header and footer. */
      readonly payloadLength: number;
      /** Whether a footer follows. */
      readonly footer: boolean;
    }
  | {
      readonly type: 'command';
      readonly offset: number;
      readonly command: number;
      readonly name: string;
      readonly length: number;
    }
  | { readonly type: 'eof'; readonly offset: number }
  | {
      readonly type: 'vmdesc';
      readonly offset: number;
      /** Bytes of the JSON text. */
      readonly length: number;
    }
  /** What could not be taken apart: its length is recorded nowhere. Ends the walk. */
  | {
      readonly type: 'opaque';
      readonly offset: number;
      readonly section: SectionIdentity;
      readonly reason: string;
    }
  | { readonly type: 'warning'; readonly warning: StreamWarning };

/** A section's payload is about to be read. Take it with `read` or `bytes`, or leave it. */
export interface SectionEvent {
  readonly type: 'section';
  readonly section: SectionIdentity;
  readonly kind: SectionKind;
  /** Position of the element's type byte. */
  readonly offset: number;
  readonly payloadOffset: number;
  /** Items of the payload, by a walker for its format. The walk completes it in any case. */
  read<T>(walker: PayloadWalker<T>): AsyncGenerator<T>;
  /** The payload as it stands in the stream. Pieces are copies. */
  bytes(): AsyncGenerator<Uint8Array>;
}

/**
 * Knows where a payload of one format ends: takes exactly its bytes from the reader and yields
 * what it finds, at least once a window, so that memory stays bounded.
 */
export type PayloadWalker<T> = (
  reader: import('../bytes/reader.js').ByteReader,
  context: PayloadContext,
) => AsyncGenerator<T>;

/** What a walker may need to know about the stream around the payload. */
export interface PayloadContext {
  readonly kind: SectionKind;
  readonly section: SectionIdentity;
  /** Capabilities of the configuration element. */
  readonly capabilities: ReadonlySet<string>;
  /** Whether POSTCOPY_ADVISE was seen: the block list may hold page sizes. */
  readonly postcopyAdvised: boolean;
  /** File position of the stream's first byte. */
  readonly streamOffset: number;
  warn(warning: StreamWarning): void;
}
