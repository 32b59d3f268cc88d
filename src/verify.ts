import type { ByteSource } from './bytes/source.js';
import { openFile } from './bytes/source.js';
import { otherMachine } from './container/libvirt.js';
import { type ContainerLayer, inspectContainer } from './container/open.js';
import { FormatError, LimitError, UsageError } from './errors.js';
import type { InputFormat } from './formats/format.js';
import { Census, type HtabSummary } from './htab/census.js';
import type { HtabItem } from './htab/items.js';
import { TableBuilder } from './htab/table.js';
import { type TableReport, verifyTable } from './htab/verify.js';
import {
  containerOptions,
  type HptInput,
  type InputWarning,
  layerWarnings,
  type OpenOptions,
  openInside,
} from './input.js';
import { printable } from './printable.js';
import { placesOf } from './rewrite/htab.js';
import { describeStream, type StreamInfo } from './snapshot/describe.js';

/** Something that is wrong, or strange. */
export interface VerifyFinding {
  /** `error`: damaged, or nothing would take it. `warning`: worth knowing. */
  readonly severity: 'error' | 'warning';
  /** An error code, a warning's code, or a kind of {@link TableReport.findings}. */
  readonly code: string;
  /** Byte offset in the data inside the containers, where a place can be named. */
  readonly offset: number | undefined;
  readonly message: string;
}

/** What `spapr-htab verify` prints. Plain data. */
export interface VerifyReport {
  readonly name: string;
  /** Whether there is no error among the findings. */
  readonly ok: boolean;
  readonly layers: readonly ContainerLayer[];
  /** What is inside the containers; undefined where it could not be told. */
  readonly format: InputFormat | undefined;
  /** For a snapshot that could be walked to its end. */
  readonly stream: StreamInfo | undefined;
  /** What the HPT's blocks amount to, up to the first error in them. */
  readonly hpt: HtabSummary | undefined;
  /** What the entries of the resulting table look like; undefined without a table. */
  readonly table: TableReport | undefined;
  readonly findings: readonly VerifyFinding[];
}

/**
 * Checks a snapshot or HPT file as far as it can be checked without its guest: containers, the
 * structure of the stream and its footers, RAM, that every block fits the table, that every entry is
 * one that hardware and KVM take and stands in the primary or secondary PTEG of its page, counts
 * and SHA-256 of archives. Holds the table.
 *
 * What is wrong with the file is a finding, not an exception; the first error in a layer ends what
 * can be said of those inside it.
 *
 * @param input a path, or a source, which is closed
 * @throws IoError, AbortedError, UsageError; UnsupportedError for what cannot be looked into
 */
export async function verify(
  input: string | ByteSource,
  options: OpenOptions = {},
): Promise<VerifyReport> {
  const verification = new Verification(options);
  const source = typeof input === 'string' ? await openFile(input) : input;
  const { name } = source;
  const { layers, opened, refusal } = await inspectContainer(source, containerOptions(options));
  verification.warn(layers.flatMap(layerWarnings));
  let format: InputFormat | undefined;
  try {
    if (opened === undefined) throw refusal;
    await using hpt = await openInside(opened, options);
    format = hpt.format;
    const known = hpt.warnings.length;
    try {
      await verification.read(hpt);
    } finally {
      verification.warn(hpt.warnings.slice(known));
    }
  } catch (error) {
    verification.fail(error);
  }
  await verification.verifyTable();
  return { name, layers, format, ...verification.report() };
}

class Verification {
  readonly #findings: VerifyFinding[] = [];
  readonly #census: Census;
  readonly #builder: TableBuilder;
  #stream: StreamInfo | undefined;
  #hasTable = false;
  #items = 0;
  #table: TableReport | undefined;

  constructor(readonly options: OpenOptions) {
    this.#census = new Census(options.limits);
    this.#builder = new TableBuilder(options.order, options.limits);
  }

  async read(hpt: HptInput): Promise<void> {
    if (hpt.format !== 'snapshot') {
      for await (const item of hpt.items({ order: true })) this.#add(item);
      return;
    }
    const { signal, onProgress, limits } = this.options;
    const { source, start, libvirt } = hpt;
    const onHtab = (item: HtabItem): void => this.#add(item);
    const stream = await describeStream(source, { start, signal, onProgress, limits, onHtab });
    this.#stream = stream;
    this.warn(stream.warnings);
    if (stream.eof === undefined) {
      const { name = '', offset } = stream.opaque ?? {};
      const message = `nothing behind section '${name}' could be looked at: its length is recorded nowhere`;
      this.#find('error', 'E_SECTION_LENGTH', offset, message);
    }
    if (stream.hpt === undefined) {
      this.#find('warning', 'W_NO_SECTION', undefined, 'the stream has no section spapr/htab');
    } else {
      placesOf(stream);
    }
    const other = libvirt && otherMachine(libvirt, stream.configuration?.machine);
    if (other !== undefined) this.#find('warning', 'W_XML_MACHINE', undefined, other);
  }

  #add(item: HtabItem): void {
    this.#items++;
    this.#census.add(item);
    if (item.type === 'order') this.#begin(item.order, item.offset);
    if (item.type === 'no-hpt') this.#hasTable = false;
    if (this.#hasTable || this.options.order !== undefined) this.#builder.add(item);
  }

  /** The same contradiction that reading the HPT elsewhere refuses. */
  #begin(order: number, offset: number): void {
    this.#hasTable = true;
    const wanted = this.options.order;
    if (wanted === undefined || wanted === order) return;
    throw new UsageError('E_ORDER', 'the input has another order than the one given', {
      offset,
      expected: String(wanted),
      actual: String(order),
    });
  }

  async verifyTable(): Promise<void> {
    if (!this.#hasTable) {
      const { blocks } = this.#census.summary();
      if (blocks === 0) return;
      const message = 'the order of the table is not known, so no entry was checked (--order N)';
      this.#find('warning', 'W_ORDER', undefined, message);
      return;
    }
    this.#table = await verifyTable(this.#builder.finish(), { signal: this.options.signal });
    for (const { severity, code, message } of this.#table.findings) {
      this.#find(severity, code, undefined, message);
    }
  }

  warn(warnings: readonly InputWarning[]): void {
    for (const { code, offset, message } of warnings) this.#find('warning', code, offset, message);
  }

  /** Takes what the file is to blame for; anything else goes on its way. */
  fail(error: unknown): void {
    if (!(error instanceof FormatError || error instanceof LimitError)) throw error;
    this.#find('error', error.code, error.offset, error.message);
  }

  #find(
    severity: VerifyFinding['severity'],
    code: string,
    offset: number | undefined,
    message: string,
  ): void {
    this.#findings.push({ severity, code, offset, message: printable(message) });
  }

  report(): Omit<VerifyReport, 'name' | 'layers' | 'format'> {
    return {
      ok: !this.#findings.some(({ severity }) => severity === 'error'),
      stream: this.#stream,
      hpt: this.#items > 0 ? this.#census.summary() : undefined,
      table: this.#table,
      findings: this.#findings,
    };
  }
}
