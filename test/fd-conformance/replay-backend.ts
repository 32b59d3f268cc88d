import { BufferSource, openHpt, replayHtabFd } from '../../src/index.js';
import type { Answer, Backend, Fd, OpenArguments, Vm } from './backend.js';
import { answer, softwareBackend } from './software-backend.js';

/**
 * Recordings: each fd that is read is a recorded first pass over a table in memory. It has neither
 * later passes nor writes of its own.
 */
export function replayBackend(): Backend {
  const software = softwareBackend('power8', 'documented');
  return {
    name: 'replay',
    host: software.host,
    features: new Set(['open', 'little-endian']),
    byteOrder: 'little',
    createVm: async () => replayed(await software.createVm()),
  };
}

function replayed(vm: Vm): Vm {
  const open = async (options: OpenArguments = {}): Promise<Answer<Fd>> => {
    const opened = await vm.open(options);
    if (opened.value === undefined || options.flags === 2n) return opened;
    const dump = await record(opened.value);
    const from = { from: 'kernel', byteOrder: 'little' } as const;
    const hpt = await openHpt(new BufferSource(dump), from);
    const htabFd = replayHtabFd(hpt.items());
    const { descriptor } = htabFd;
    return {
      value: {
        htabFd,
        read: (length) => answer(() => descriptor.read(length)),
        write: (bytes) => answer(() => descriptor.write(bytes)),
        close: () => descriptor.close(),
      },
    };
  };
  return {
    open,
    allocate: (order) => vm.allocate(order),
    setMemory: (slots) => vm.setMemory(slots),
    setRadix: (radix) => vm.setRadix(radix),
    startVcpu: () => vm.startVcpu(),
    stopVcpu: () => vm.stopVcpu(),
    close: () => vm.close(),
  };
}

async function record(fd: Fd): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const { value } = await fd.read(1 << 21);
    if (value === undefined || value.length === 0) break;
    pieces.push(value);
  }
  await fd.close();
  return Buffer.concat(pieces);
}
