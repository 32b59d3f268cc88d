import { Pace } from '../bytes/pace.js';
import { ByteReader, type ByteReaderOptions, LARGEST_ENSURE } from '../bytes/reader.js';
import type { ByteSource } from '../bytes/source.js';
import { FormatError, UnsupportedError } from '../errors.js';
import { exceeded } from '../limits.js';
import { printable } from '../printable.js';
import { readConfiguration, text } from './configuration.js';
import {
  COMMANDS,
  commandName,
  describeSection,
  ELEMENT,
  type PayloadContext,
  type PayloadWalker,
  SECTION_KINDS,
  type SectionIdentity,
  type SectionKind,
  STREAM_MAGIC,
  STREAM_VERSION,
  type StreamEvent,
  type StreamWarning,
} from './elements.js';
import {
  isFooter,
  LOOKAHEAD,
  looksLikeElement,
  untilFooter,
  untilNextDevice,
} from './lookahead.js';
import { Payload } from './payload.js';
import { RAM_SECTION, RamWalker } from './ram.js';
import { walkBlock, walkDirtyBitmap } from './storage.js';
import { isVfio, walkVfio } from './vfio.js';
import type { VmDescription } from './vmdesc.js';

const COMMAND_POSTCOPY_ADVISE = 3;
const COMMAND_PACKAGED = 7;

export interface StreamOptions extends ByteReaderOptions {
  /**
   * Knows the payloads of iterable sections by name. `ram` is built in; other sections are passed
   * by the vmdescription or by their footers.
   */
  readonly walkers?: ReadonlyMap<string, PayloadWalker<unknown>>;
}

/**
 * Walks a QEMU migration stream (migration/savevm.c qemu_loadvm_state, QEMU 1.6 to 11.1) and yields
 * what it meets, with byte offsets in the source.
 *
 * Payload lengths are recorded nowhere. Iterables are walked by their format, devices by the
 * vmdescription at the end of a seekable source; where that is missing or wrong, by the next
 * footer, and where there is none, by what looks like the next device: each with a warning. An
 * unknown iterable in a stream without footers ends the walk with an `opaque` event.
 *
 * @throws FormatError `E_MAGIC`, `E_ELEMENT`, `E_FOOTER`, `E_SECTION`, `E_SECTION_LENGTH`,
 *   `E_TRUNCATED` and what the walkers throw; UnsupportedError `E_VERSION`, `E_UNSUPPORTED`;
 *   LimitError
 */
export async function* readStream(
  source: ByteSource,
  options: StreamOptions = {},
): AsyncGenerator<StreamEvent> {
  yield* new StreamWalk(source, options).events();
}

class StreamWalk {
  readonly #reader: ByteReader;
  readonly #start: number;
  readonly #signal: AbortSignal | undefined;
  readonly #walkers: Map<string, PayloadWalker<unknown>>;
  readonly #sections = new Map<number, SectionIdentity>();
  readonly #warnings: StreamWarning[] = [];
  #warned = 0;
  #capabilities: ReadonlySet<string> = new Set();
  #postcopyAdvised = false;
  /** Whether sections end with a footer; undefined before the first one. */
  #footers: boolean | undefined;
  #vmdesc: VmDescription | undefined;
  /** Whether it was said that devices are delimited by footers. */
  #byFooters = false;
  /** Whether it was said that the ends of devices are guessed. */
  #guessed = false;
  /** Described payload lengths not met yet, by name and instance, the next one last. */
  readonly #lengths = new Map<string, (number | undefined)[]>();

  constructor(
    readonly source: ByteSource,
    options: StreamOptions,
  ) {
    this.#start = options.start ?? 0;
    this.#signal = options.signal;
    this.#reader = new ByteReader(source, options);
    const ram = new RamWalker();
    this.#walkers = new Map<string, PayloadWalker<unknown>>([
      [RAM_SECTION, (reader, context) => ram.walk(reader, context)],
      ['dirty-bitmap', walkDirtyBitmap],
      ['block', walkBlock],
      ...(options.walkers ?? []),
    ]);
  }

  async *events(): AsyncGenerator<StreamEvent> {
    const reader = this.#reader;
    yield await this.#header();
    if ((await reader.tryEnsure(1)) && reader.peek() === ELEMENT.CONFIGURATION) {
      const configuration = await readConfiguration(reader);
      this.#capabilities = new Set(configuration.capabilities);
      yield { type: 'configuration', configuration };
    }
    await this.#findDescription();
    for (;;) {
      yield* this.#takeWarnings();
      await reader.ensure(1, 'the list of sections: its end mark is missing');
      const type = reader.peek();
      const kind = SECTION_KINDS[type];
      if (kind !== undefined) {
        if (yield* this.#section(kind)) continue;
        yield* this.#takeWarnings();
        return;
      }
      if (type === ELEMENT.COMMAND) {
        yield* this.#command();
      } else if (type === ELEMENT.EOF) {
        yield { type: 'eof', offset: reader.offset };
        reader.pos += 1;
        yield* this.#tail();
        yield* this.#takeWarnings();
        return;
      } else {
        throw this.#unknownElement(type);
      }
    }
  }

  async #header(): Promise<StreamEvent> {
    const reader = this.#reader;
    const offset = reader.offset;
    await reader.ensure(8, 'the header of the stream');
    const magic = reader.u32();
    if (magic !== STREAM_MAGIC) {
      throw new FormatError('E_MAGIC', 'this is no QEMU migration stream', {
        offset,
        expected: "'QEVM'",
        actual: `0x${magic.toString(16).padStart(8, '0')}`,
      });
    }
    const version = reader.u32();
    if (version !== STREAM_VERSION) {
      throw new UnsupportedError('E_VERSION', 'this version of the stream is not known', {
        offset: offset + 4,
        expected: String(STREAM_VERSION),
        actual: String(version),
      });
    }
    return { type: 'header', offset, version };
  }

  #unknownElement(type: number): FormatError {
    return new FormatError('E_ELEMENT', 'no element of a stream begins with this byte', {
      offset: this.#reader.offset,
      expected: 'a section, a command or the end mark',
      actual: `0x${type.toString(16).padStart(2, '0')}`,
    });
  }

  async #findDescription(): Promise<void> {
    // Loaded late, with its JSON parser: an HPT file needs none.
    const { findVmdesc } = await import('./vmdesc.js');
    const search = await findVmdesc(this.source, this.#start, this.#reader.limits, this.#signal);
    this.#vmdesc = search.found;
    const pace = new Pace(this.#signal);
    for (const { name, instance, payloadLength } of [...(search.found?.devices ?? [])].reverse()) {
      if (pace.due) await pace.pause();
      const key = `${instance} ${name}`;
      const list = this.#lengths.get(key);
      if (list === undefined) this.#lengths.set(key, [payloadLength]);
      else list.push(payloadLength);
    }
    if (search.found === undefined && search.damaged !== undefined) {
      this.#warn('W_VMDESC_DAMAGED', search.damaged.offset ?? 0, search.damaged.message);
    }
  }

  /** Returns false when the walk cannot go on. */
  async *#section(kind: SectionKind): AsyncGenerator<StreamEvent, boolean> {
    const reader = this.#reader;
    const offset = reader.offset;
    const section = await this.#sectionHeader(kind);
    const payloadOffset = reader.offset;
    const walker = await this.#walkerFor(kind, section);
    if (walker === undefined) {
      const reason =
        'its length is recorded nowhere: the stream has neither footers nor a description of it';
      this.#warn('W_OPAQUE_REST', offset, `${describeSection(section)}: ${reason}`);
      yield { type: 'opaque', offset, section, reason };
      return false;
    }
    const context: PayloadContext = {
      kind,
      section,
      capabilities: this.#capabilities,
      postcopyAdvised: this.#postcopyAdvised,
      streamOffset: this.#start,
      warn: ({ code, offset, message }) => this.#warn(code, offset, message),
    };
    const payload = new Payload(kind, section, offset, reader, context, walker);
    reader.path = describeSection(section);
    yield payload;
    await payload.finish();
    reader.path = undefined;
    const payloadLength = reader.offset - payloadOffset;
    const footer = await this.#footer(section);
    yield { type: 'section-end', section, kind, offset, payloadOffset, payloadLength, footer };
    return true;
  }

  async #sectionHeader(kind: SectionKind): Promise<SectionIdentity> {
    const reader = this.#reader;
    const offset = reader.offset;
    await reader.ensure(5, 'the header of a section');
    reader.pos += 1;
    const id = reader.u32();
    const known = this.#sections.get(id);
    if (kind === 'part' || kind === 'end') {
      if (known !== undefined) return known;
      throw new FormatError('E_SECTION', `a section ${kind.toUpperCase()} has no START`, {
        offset,
        expected: 'the id of a section that was started',
        actual: String(id),
      });
    }
    await reader.ensure(1, 'the name of a section');
    const length = reader.u8();
    await reader.ensure(length + 8, 'the header of a section');
    const name = text(reader.take(length));
    const section = { id, name, instance: reader.u32(), version: reader.u32() };
    if (known !== undefined && (known.name !== name || known.instance !== section.instance)) {
      throw new FormatError('E_SECTION', 'two sections have the same id', {
        offset,
        expected: describeSection(known),
        actual: describeSection(section),
      });
    }
    if (this.#sections.size >= reader.limits.sections) {
      throw exceeded(reader.limits, 'sections', 'too many sections', { offset });
    }
    this.#sections.set(id, section);
    return section;
  }

  /** How to find the end of the payload that begins here; undefined when nothing tells. */
  async #walkerFor(
    kind: SectionKind,
    section: SectionIdentity,
  ): Promise<PayloadWalker<unknown> | undefined> {
    const offset = this.#reader.offset;
    if (kind === 'full') {
      const described = this.#lengths.get(`${section.instance} ${section.name}`)?.pop();
      if (described !== undefined && (await this.#endsPlausibly(section, offset + described))) {
        return (reader) => reader.passOver(described, describeSection(section));
      }
    } else {
      const walker = this.#walkers.get(section.name);
      if (walker !== undefined) return walker;
      if (isVfio(section.name)) return walkVfio;
    }
    if (this.#footers === false) return kind === 'full' ? this.#guess(section) : undefined;
    if (this.#vmdesc !== undefined || kind !== 'full') {
      const why = kind === 'full' ? 'the description is wrong about it' : 'its format is not known';
      const message = `the end of ${describeSection(section)} was found by its footer, as ${why}`;
      this.#warn('W_LENGTH_BY_FOOTER', offset, message);
    } else if (!this.#byFooters) {
      this.#byFooters = true;
      const why = this.source.seekable
        ? 'no description was found'
        : 'a description at the end of what can only be read forward comes too late';
      const message = `device sections are delimited by their footers: ${why}`;
      this.#warn('W_LENGTH_BY_FOOTER', offset, message);
    }
    return untilFooter(this.#sections);
  }

  /** Without footers, all that is left is to look for the next device. */
  #guess(section: SectionIdentity): PayloadWalker<unknown> {
    const { offset } = this.#reader;
    if (this.#vmdesc !== undefined) {
      const message = `the description is wrong about ${describeSection(section)}; its end is a guess`;
      this.#warn('W_LENGTH_GUESSED', offset, message);
    } else if (!this.#guessed) {
      const message =
        'the stream has neither footers nor a description: where device sections end is a guess';
      this.#warn('W_LENGTH_GUESSED', offset, message);
    }
    this.#guessed = true;
    return untilNextDevice(this.#sections);
  }

  /** Whether a payload of this section can end at that position of a seekable source. */
  async #endsPlausibly(section: SectionIdentity, position: number): Promise<boolean> {
    const buffer = Buffer.alloc(5 + LOOKAHEAD);
    let length = 0;
    while (length < buffer.length) {
      const count = await this.source.read(buffer.subarray(length), position + length);
      if (count === 0) break;
      length += count;
    }
    const bytes = buffer.subarray(0, length);
    const atEnd = length < buffer.length;
    if (this.#footers !== false && isFooter(bytes, section.id)) return true;
    return this.#footers !== true && looksLikeElement(bytes, this.#sections, atEnd);
  }

  /** Takes the footer if there is one. The first section shows whether this stream has them. */
  async #footer(section: SectionIdentity): Promise<boolean> {
    const reader = this.#reader;
    await reader.tryEnsure(5);
    const bytes = Buffer.from(
      reader.buffer.subarray(reader.pos, Math.min(reader.end, reader.pos + 5)),
    );
    const present = isFooter(bytes, section.id);
    this.#footers ??= present;
    if (present && this.#footers) {
      reader.pos += 5;
      return true;
    }
    if (!this.#footers) return false;
    if (bytes.length < 5) throw reader.truncated(5, `the footer of ${describeSection(section)}`);
    throw new FormatError('E_FOOTER', 'the footer is missing or belongs to another section', {
      offset: reader.offset,
      path: describeSection(section),
      expected: `7e ${section.id.toString(16).padStart(8, '0')}`,
      actual: bytes.toString('hex'),
    });
  }

  async *#command(): AsyncGenerator<StreamEvent> {
    const reader = this.#reader;
    const offset = reader.offset;
    await reader.ensure(5, 'a command');
    reader.pos += 1;
    const command = reader.u16();
    const length = reader.u16();
    const name = commandName(command, length);
    if (COMMANDS[command] === undefined || command === 0) {
      this.#warn('W_UNKNOWN_COMMAND', offset, `command ${command} is not known; passed over`);
    }
    if (command === COMMAND_POSTCOPY_ADVISE) this.#postcopyAdvised = true;
    await reader.skip(length, `command ${name}`);
    if (command === COMMAND_PACKAGED) {
      // Its data is the length of a list of elements that follows without a header of its own, and
      // goes on in the one around it (migration/savevm.c loadvm_handle_cmd_packaged).
      const message = 'a postcopy migration: pages that the target asked for may be elsewhere';
      this.#warn('W_POSTCOPY', offset, message);
    }
    yield { type: 'command', offset, command, name, length };
  }

  /** What may follow the end mark: the description, and then anything (QEMU reads no further). */
  async *#tail(): AsyncGenerator<StreamEvent> {
    const reader = this.#reader;
    const offset = reader.offset;
    if (!(await reader.tryEnsure(1))) {
      if (this.#footers) {
        this.#warn('W_VMDESC_MISSING', offset, 'the stream has no vmdescription');
      }
      return;
    }
    if (reader.peek() === ELEMENT.VMDESCRIPTION) {
      await reader.ensure(5, 'the vmdescription');
      reader.pos += 1;
      const length = reader.u32();
      await reader.skip(length, 'the vmdescription');
      if (this.#vmdesc !== undefined && this.#vmdesc.offset !== offset) {
        this.#warn('W_VMDESC_DAMAGED', offset, 'another vmdescription stands further on');
      }
      yield { type: 'vmdesc', offset, length };
    }
    if ((await reader.tryEnsure(1)) && !(await this.#isPadding())) {
      this.#warn('W_TRAILING', reader.offset, 'bytes follow the stream; QEMU ignores them');
    }
  }

  /** Zeros up to the end, as the last cluster of an image has them. */
  async #isPadding(): Promise<boolean> {
    const reader = this.#reader;
    const whole = !(await reader.tryEnsure(LARGEST_ENSURE));
    return whole && reader.buffer.subarray(reader.pos, reader.end).every((byte) => byte === 0);
  }

  #warn(code: StreamWarning['code'], offset: number, message: string): void {
    const { limits } = this.#reader;
    if (++this.#warned > limits.warnings) {
      throw exceeded(limits, 'warnings', 'there is too much to warn of', { offset });
    }
    this.#warnings.push({ code, offset, message: printable(message) });
  }

  *#takeWarnings(): Generator<StreamEvent> {
    for (const warning of this.#warnings.splice(0)) yield { type: 'warning', warning };
  }
}
