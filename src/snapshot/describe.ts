import type { ByteSource } from '../bytes/source.js';
import { Census, type HtabSummary } from '../htab/census.js';
import type { HtabItem } from '../htab/items.js';
import { SECTION_NAME, type SectionOptions } from '../htab/section.js';
import { exceeded, type Limits, limitsOf } from '../limits.js';
import type {
  Configuration,
  PayloadWalker,
  SectionIdentity,
  SectionKind,
  StreamEvent,
  StreamWarning,
} from '../qevm/elements.js';
import { RAM_SECTION, type RamBlock, RamWalker } from '../qevm/ram.js';
import { readStream, type StreamOptions } from '../qevm/stream.js';
import { htabWalker } from './htab.js';

/** One payload of a section. Positions and lengths are bytes. */
export interface PartInfo {
  readonly kind: SectionKind;
  /** Position of the element's type byte. */
  readonly offset: number;
  readonly payloadOffset: number;
  readonly payloadLength: number;
}

export interface SectionInfo extends SectionIdentity {
  /** Whether it comes in START, PART and END, or all at once. */
  readonly iterable: boolean;
  /** Position of its first element. */
  readonly offset: number;
  /** Payload bytes of all parts. */
  length: number;
  readonly parts: PartInfo[];
}

/** What a stream holds. Plain data: `JSON.stringify` gives what `info --json` prints. */
export interface StreamInfo {
  /** Where the stream begins in its source. */
  readonly offset: number;
  readonly version: number;
  readonly configuration: Configuration | undefined;
  /** Whether sections end with footers. */
  readonly footers: boolean;
  readonly vmdesc: { readonly offset: number; readonly length: number } | undefined;
  /** Where the end mark stands; undefined when the walk could not get there. */
  readonly eof: number | undefined;
  /** The section that ended the walk instead, as nothing tells its length. */
  readonly opaque: { readonly name: string; readonly offset: number } | undefined;
  readonly sections: readonly SectionInfo[];
  readonly commands: readonly {
    readonly offset: number;
    readonly command: number;
    readonly name: string;
    readonly length: number;
  }[];
  /** Undefined when there is no `spapr/htab` section. */
  readonly hpt: HtabSummary | undefined;
  readonly ram: readonly (Omit<RamBlock, 'address'> & { readonly address: string | undefined })[];
  readonly warnings: readonly StreamWarning[];
}

export interface DescribeOptions extends StreamOptions {
  /** Told of everything that the sections `spapr/htab` say, in stream order. Views: use at once. */
  readonly onHtab?: ((item: HtabItem) => void) | undefined;
  /** As in {@link SectionOptions}. */
  readonly onLittleEndian?: SectionOptions['onLittleEndian'];
}

/** Walks a stream once and describes it. @throws what {@link readStream} throws */
export async function describeStream(
  source: ByteSource,
  options: DescribeOptions = {},
): Promise<StreamInfo> {
  const description = new Description(options);
  const walkers = new Map<string, PayloadWalker<unknown>>([
    ...(options.walkers ?? []),
    [RAM_SECTION, (reader, context) => description.ram.walk(reader, context)],
    [SECTION_NAME, description.htab],
  ]);
  for await (const event of readStream(source, { ...options, walkers })) {
    description.add(event);
    if (event.type === 'section' && event.section.name === SECTION_NAME) {
      for await (const item of event.read(description.htab)) {
        description.census.add(item);
        options.onHtab?.(item);
      }
    }
  }
  return description.result();
}

class Description {
  readonly ram = new RamWalker();
  readonly htab: PayloadWalker<HtabItem>;
  readonly census: Census;
  readonly #limits: Limits;
  readonly #sections = new Map<number, SectionInfo>();
  readonly #commands: StreamInfo['commands'][number][] = [];
  readonly #warnings: StreamWarning[] = [];
  #version = 0;
  #configuration: Configuration | undefined;
  #footers = false;
  #vmdesc: StreamInfo['vmdesc'];
  #eof: number | undefined;
  #opaque: StreamInfo['opaque'];
  #parts = 0;

  readonly offset: number;

  constructor({ start = 0, onLittleEndian, limits }: DescribeOptions) {
    this.#limits = limitsOf(limits);
    this.census = new Census(limits);
    this.offset = start;
    this.htab = htabWalker({ onLittleEndian });
  }

  add(event: StreamEvent): void {
    switch (event.type) {
      case 'header':
        this.#version = event.version;
        break;
      case 'configuration':
        this.#configuration = event.configuration;
        break;
      case 'section':
        break;
      case 'section-end':
        this.#footers ||= event.footer;
        this.#addPart(event.section, {
          kind: event.kind,
          offset: event.offset,
          payloadOffset: event.payloadOffset,
          payloadLength: event.payloadLength,
        });
        break;
      case 'command': {
        const { type: _, ...command } = event;
        if (this.#commands.length >= this.#limits.commands) {
          const { offset } = event;
          throw exceeded(this.#limits, 'commands', 'too many commands to list', { offset });
        }
        this.#commands.push(command);
        break;
      }
      case 'eof':
        this.#eof = event.offset;
        break;
      case 'vmdesc':
        this.#vmdesc = { offset: event.offset, length: event.length };
        break;
      case 'warning':
        this.#warnings.push(event.warning);
        break;
      case 'opaque':
        this.#opaque = { name: event.section.name, offset: event.offset };
        break;
    }
  }

  #addPart(section: SectionIdentity, part: PartInfo): void {
    if (++this.#parts > this.#limits.parts) {
      const { offset } = part;
      throw exceeded(this.#limits, 'parts', 'too many section parts to list', { offset });
    }
    let info = this.#sections.get(section.id);
    if (info === undefined) {
      const iterable = part.kind !== 'full';
      info = { ...section, iterable, offset: part.offset, length: 0, parts: [] };
      this.#sections.set(section.id, info);
    }
    info.parts.push(part);
    info.length += part.payloadLength;
  }

  result(): StreamInfo {
    const sections = [...this.#sections.values()];
    const htab = sections.find((section) => section.name === SECTION_NAME);
    const hpt = htab === undefined ? undefined : this.census.summary();
    if (hpt !== undefined && hpt.notValid > 0) {
      this.#warnings.push({
        code: 'W_HTAB',
        offset: htab?.offset ?? 0,
        message: `${hpt.notValid} entries are sent as valid without V; KVM would refuse them`,
      });
    }
    return {
      offset: this.offset,
      version: this.#version,
      configuration: this.#configuration,
      footers: this.#footers,
      vmdesc: this.#vmdesc,
      eof: this.#eof,
      opaque: this.#opaque,
      sections,
      commands: this.#commands,
      hpt,
      ram: this.ram.blocks.map((block) => ({ ...block, address: hex(block.address) })),
      warnings: this.#warnings,
    };
  }
}

/** 64-bit values do not fit a JSON number. */
function hex(value: bigint | undefined): string | undefined {
  return value === undefined ? undefined : `0x${value.toString(16)}`;
}
