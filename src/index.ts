/**
 * spapr-htab: reads, checks, translates and rewrites the hashed page table (HPT) of ppc64 pseries guests.
 *
 * - {@link openHpt} opens any snapshot or HPT file; {@link inspect}, {@link convert},
 *   {@link rewrite}, {@link verify} and {@link checkSnapshot} do what the command does.
 * - {@link readStream} walks a QEMU migration stream.
 * - {@link HtabFd} reads and writes the kernel's HTAB fd, a table in memory, or a recording;
 *   {@link capture} and {@link restore} go between it and files.
 * - {@link HashPageTable} holds a table; the codecs translate without holding one.
 *
 * @packageDocumentation
 */

export { type ArchiveReading, readArchive } from './archive/decode.js';
export { type ArchiveOrigin, encodeArchive } from './archive/encode.js';
export type { ArchiveCounts, ArchiveHeader } from './archive/schema.js';
export { AtomicFile, type OutputOptions, type RandomAccessFile } from './bytes/output.js';
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
export { type CaptureOptions, type CaptureResult, capture } from './capture.js';
export { type CheckOptions, checkSnapshot, type SnapshotCheck } from './check.js';
export type { ConfigurationCheck } from './compat/configuration.js';
export {
  type DeviceClass,
  parseVmstateDump,
  type TargetField,
  type TargetState,
  type VmstateDump,
} from './compat/dump.js';
export type { CheckReason, CheckReasonCode, Verdict } from './compat/outcome.js';
export { readVmstateDump } from './compat/read.js';
export { type CheckReport, checkStream } from './compat/report.js';
export type { SectionCheck } from './compat/section.js';
export type {
  CompressionLayer,
  LibvirtLayer,
  Qcow2Layer,
  SnapshotSummary,
} from './container/layers.js';
export {
  type ContainerInspection,
  type ContainerLayer,
  type ContainerOptions,
  inspectContainer,
  type OpenedContainer,
  openContainer,
} from './container/open.js';
export { type ConvertOptions, type ConvertOutput, type ConvertResult, convert } from './convert.js';
export { type DecodeDeviceOptions, decodeDevice } from './devices/decode.js';
export {
  type DescribeDevicesOptions,
  type DeviceReport,
  describeDevices,
} from './devices/describe.js';
export { type DeviceJsonOptions, deviceToJSON, type PlainJson } from './devices/json.js';
export type {
  ArrayNode,
  BitmapNode,
  BytesNode,
  DeviceNode,
  DeviceTree,
  DeviceWarning,
  ListNode,
  NullNode,
  ScalarNode,
  ScalarsNode,
  StateNode,
  StructNode,
  TreeNode,
  UndecodedNode,
} from './devices/node.js';
export { type Scalar, ScalarArray, type ScalarType } from './devices/scalar.js';
export { type InspectDevicesOptions, inspectDevices } from './devices.js';
export { type DoctorReport, doctor, type ProgramReport } from './doctor.js';
export {
  AbortedError,
  ERROR_CODES,
  type ErrorCode,
  type ErrorDetails,
  FormatError,
  IoError,
  type LimitDetails,
  LimitError,
  SpaprHtabError,
  UnsupportedError,
  UsageError,
} from './errors.js';
export {
  type BlocksWritten,
  type HtabBackend,
  type HtabDescriptor,
  type HtabOpenOptions,
  MIN_READ_BYTES,
} from './fd/descriptor.js';
export { HtabFd, type PassesOptions, type PassOptions } from './fd/htab-fd.js';
export {
  adoptHtabFd,
  htabFdOfProcess,
  openHtabFd,
  type ProcessFdOptions,
  receiveHtabFd,
} from './fd/open.js';
export type { HtabPass, PassCounts } from './fd/pass.js';
export { replayHtabFd } from './fd/replay.js';
export type { SoftwareDescriptor, SoftwareOpenOptions } from './fd/software/descriptor.js';
export type { SoftwareHost } from './fd/software/hpt.js';
export type { GuestMemory } from './fd/software/memory.js';
export { SoftwareHtab, type SoftwareHtabOptions } from './fd/software/vm.js';
export type { BlocksPerWrite } from './fd/software/write.js';
export {
  type HtabFdSupport,
  KVM_PPC_GET_HTAB_FD,
  type KvmReport,
  probeHtabFd,
} from './fd/support.js';
export { type Applied, HtabWriteError, type RefusedBlock } from './fd/write-error.js';
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
export { type CanonicalOptions, canonical } from './htab/canonical.js';
export { Census, type HtabSummary } from './htab/census.js';
export {
  HPTE_R_SOFTWARE,
  HPTE_V_ABSENT,
  HPTE_V_BOLTED,
  HPTE_V_HVLOCK,
  HPTE_V_LARGE,
  HPTE_V_SECONDARY,
  HPTE_V_SOFTWARE,
  HPTE_V_VALID,
  type Hpte,
} from './htab/hpte.js';
export { decodeImage, orderOfImage, writeImage } from './htab/image.js';
export type { HtabItem, HtabItems } from './htab/items.js';
export {
  decodeKernel,
  encodeKernel,
  type KernelDecodeOptions,
  type KernelEncodeOptions,
} from './htab/kernel.js';
export { bytesOfOrder, MAX_ORDER, MIN_ORDER, orderOfSlots, slotsOfOrder } from './htab/order.js';
export { type PageShifts, pageShifts } from './htab/page-size.js';
export { type RehashCounts, type Rehashed, type RehashOptions, rehash } from './htab/rehash.js';
export {
  decodeSection,
  encodeSection,
  SectionDecoder,
  type SectionOptions,
} from './htab/section.js';
export { type ByteOrderVerdict, type Reading, sniffByteOrder } from './htab/sniff.js';
export { type CanonicalFraming, HashPageTable, type HptCounts } from './htab/table.js';
export {
  type PageSizeCount,
  type TableFinding,
  type TableFindingCode,
  type TableReport,
  verifyTable,
} from './htab/verify.js';
export { type HptInput, type InputWarning, type OpenOptions, openHpt } from './input.js';
export { type FileInfo, inspect } from './inspect.js';
export { DEFAULT_LIMITS, type LimitName, type LimitOptions, type Limits } from './limits.js';
export { MemoryFile } from './memory/memory-file.js';
export {
  DEFAULT_RAM_BLOCK,
  type RamResult,
  type RamWarning,
  type ReadRamOptions,
  readRam,
} from './memory/read-ram.js';
export { decodeXbzrle } from './memory/xbzrle.js';
export type { HptOutput } from './output.js';
export type { FieldDescription, StateDescription } from './qevm/description.js';
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
export {
  type MappedRegion,
  type RamBlock,
  type RamItem,
  type RamVisitor,
  RamWalker,
} from './qevm/ram.js';
export { readStream, type StreamOptions } from './qevm/stream.js';
export {
  type DeviceDescription,
  findVmdesc,
  parseVmdesc,
  type VmDescription,
} from './qevm/vmdesc.js';
export { type ExtractRamOptions, type ExtractRamResult, extractRam } from './ram.js';
export { type RestoreOptions, type RestoreResult, restore } from './restore.js';
export type { HeaderEdits } from './rewrite/header.js';
export type { HptEdits } from './rewrite/hpt.js';
export type { HptFigures, RewriteResult, RewriteWarning } from './rewrite/result.js';
export {
  OUTPUT_CONTAINERS,
  OUTPUT_FORMATS,
  type OutputContainer,
  type OutputFormat,
  type Wrapping,
  type WrappingEdits,
} from './rewrite/wrapping.js';
export { type RewriteOptions, rewrite } from './rewrite.js';
export {
  describeStream,
  type PartInfo,
  type SectionInfo,
  type StreamInfo,
} from './snapshot/describe.js';
export { htabWalker, readSnapshotHtab, type SnapshotHtabOptions } from './snapshot/htab.js';
export { type VerifyFinding, type VerifyReport, verify } from './verify.js';
