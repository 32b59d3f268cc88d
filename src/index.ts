/**
 * spapr-htab: reads, checks and translates the hashed page table (HPT) of ppc64 pseries guests.
 *
 * - {@link openHpt} opens any snapshot or HPT file; {@link convert} and {@link inspect} are the two
 *   jobs of the command line.
 * - {@link readStream} walks a QEMU migration stream.
 * - {@link HashPageTable} holds a table; the codecs translate without holding one.
 *
 * @packageDocumentation
 */

export { readArchive, type ArchiveReading } from './archive/decode.js';
export { type ArchiveOrigin, encodeArchive } from './archive/encode.js';
export type { ArchiveCounts, ArchiveHeader } from './archive/schema.js';
export { AtomicFile, type OutputOptions } from './bytes/output.js';
export {
  ByteReader,
  type ByteReaderOptions,
  type OperationOptions,
  type ProgressListener,
} from './bytes/reader.js';
export {
  BufferSource,
  type ByteSource,
  FileSource,
  IterableSource,
  openFile,
  SliceSource,
} from './bytes/source.js';
export { type ContainerLayer, openContainer, type OpenedContainer } from './container/open.js';
export { convert, type ConvertOptions, type ConvertOutput, type ConvertResult } from './convert.js';
export {
  AbortedError,
  ERROR_CODES,
  type ErrorCode,
  type ErrorDetails,
  FormatError,
  IoError,
  LimitError,
  SpaprHtabError,
  UnsupportedError,
  UsageError,
} from './errors.js';
export { type EncodeOptions, encodeHpt } from './formats/encode.js';
export {
  formatOfPath,
  HPT_FORMATS,
  type HptFormat,
  INPUT_FORMATS,
  type InputFormat,
} from './formats/format.js';
export { BlockBatch, type ByteOrder, encodeBlock, type HtabBlock } from './htab/block.js';
export { boltedOnly } from './htab/bolted.js';
export { canonical, type CanonicalOptions } from './htab/canonical.js';
export { Census, type HtabSummary } from './htab/census.js';
export {
  type Hpte,
  HPTE_R_SOFTWARE,
  HPTE_V_ABSENT,
  HPTE_V_BOLTED,
  HPTE_V_HVLOCK,
  HPTE_V_LARGE,
  HPTE_V_SECONDARY,
  HPTE_V_SOFTWARE,
  HPTE_V_VALID,
} from './htab/hpte.js';
export { decodeImage, orderOfImage, type RandomAccessFile, writeImage } from './htab/image.js';
export type { HtabItem, HtabItems } from './htab/items.js';
export {
  decodeKernel,
  encodeKernel,
  type KernelDecodeOptions,
  type KernelEncodeOptions,
} from './htab/kernel.js';
export { bytesOfOrder, MAX_ORDER, MIN_ORDER, orderOfSlots, slotsOfOrder } from './htab/order.js';
export {
  decodeSection,
  encodeSection,
  SectionDecoder,
  type SectionOptions,
} from './htab/section.js';
export { type ByteOrderVerdict, type Reading, sniffByteOrder } from './htab/sniff.js';
export { type CanonicalFraming, HashPageTable, type HptCounts } from './htab/table.js';
export { type HptInput, type InputWarning, type OpenOptions, openHpt } from './input.js';
export { type FileInfo, inspect } from './inspect.js';
export type {
  Configuration,
  PayloadContext,
  PayloadWalker,
  SectionEvent,
  SectionIdentity,
  SectionKind,
  StreamEvent,
  StreamWarning,
} from './qevm/elements.js';
export { type MappedRegion, type RamBlock, type RamItem, RamWalker } from './qevm/ram.js';
export { readStream, type StreamOptions } from './qevm/stream.js';
export {
  type DeviceDescription,
  findVmdesc,
  parseVmdesc,
  type VmDescription,
} from './qevm/vmdesc.js';
export {
  describeStream,
  type PartInfo,
  type SectionInfo,
  type StreamInfo,
} from './snapshot/describe.js';
export { htabWalker, readSnapshotHtab, type SnapshotHtabOptions } from './snapshot/htab.js';
export { type HtabFdSupport, KVM_PPC_GET_HTAB_FD, probeHtabFd } from './fd/native.js';
