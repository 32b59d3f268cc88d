import { inflateRawSync, constants as zlib } from 'node:zlib';
import type { ZSTDDecoder } from 'zstddec';
import { FormatError } from '../errors.js';
import { zstdFrameLength } from './zstd-frame.js';

const PATH = 'qcow2 compressed cluster';

/** Turns a compressed cluster, followed by bytes of others, into one whole cluster. */
export type ClusterDecoder = (bytes: Buffer, clusterSize: number, offset: number) => Uint8Array;

/** Loads what is needed for a compression type. Offsets are positions in the file, for messages. */
export async function clusterDecoder(compression: 'deflate' | 'zstd'): Promise<ClusterDecoder> {
  if (compression === 'deflate') return inflateCluster;
  const { ZSTDDecoder } = await import('zstddec');
  const decoder = new ZSTDDecoder();
  await decoder.init();
  return (bytes, clusterSize, offset) => zstdCluster(decoder, bytes, clusterSize, offset);
}

/**
 * Raw deflate with a window of 4 KiB (block/qcow2-threads.c qcow2_zlib_decompress, QEMU 10.2). What
 * follows the deflate stream is not looked at.
 */
function inflateCluster(bytes: Buffer, clusterSize: number, offset: number): Uint8Array {
  let cluster: Buffer;
  try {
    cluster = inflateRawSync(bytes, {
      windowBits: 12,
      maxOutputLength: clusterSize,
      finishFlush: zlib.Z_SYNC_FLUSH,
      chunkSize: clusterSize,
    });
  } catch (error) {
    throw damaged(offset, error instanceof Error ? error.message : String(error), error);
  }
  if (cluster.length !== clusterSize) {
    throw damaged(offset, `${cluster.length} bytes for a cluster of ${clusterSize}`);
  }
  return cluster;
}

/** One or more frames that together fill the cluster (qcow2_zstd_decompress). */
function zstdCluster(
  decoder: ZSTDDecoder,
  bytes: Buffer,
  clusterSize: number,
  offset: number,
): Uint8Array {
  const cluster = new Uint8Array(clusterSize);
  let done = 0;
  for (let at = 0; done < clusterSize; ) {
    const frame = zstdFrameLength(bytes.subarray(at));
    if (frame === undefined) throw damaged(offset + at, 'no whole zstd frame');
    if (!frame.skippable) {
      const part = decodeFrame(decoder, bytes.subarray(at, at + frame.length), clusterSize - done);
      if (part === undefined) throw damaged(offset + at, 'a zstd frame that cannot be decoded');
      cluster.set(part, done);
      done += part.length;
    }
    at += frame.length;
  }
  return cluster;
}

/**
 * The decoder reports an error as a length: a small negative one, of which its slice makes
 * something empty. An empty frame is an error here too: it brings a cluster no further.
 */
function decodeFrame(decoder: ZSTDDecoder, frame: Buffer, room: number): Uint8Array | undefined {
  try {
    const part = decoder.decode(frame, room);
    return part.length > 0 && part.length <= room ? part : undefined;
  } catch {
    return undefined;
  }
}

function damaged(offset: number, actual: string, cause?: unknown): FormatError {
  return new FormatError('E_COMPRESSED', 'the cluster cannot be decompressed', {
    offset,
    path: PATH,
    actual,
    cause,
  });
}
