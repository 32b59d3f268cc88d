/**
 * Builds QEMU streams and HTAB payloads by hand, a function for each element, as the sources lay
 * them out (migration/savevm.c, migration/ram.c, hw/ppc/spapr.c).
 */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export function str8(text: string): Buffer {
  return Buffer.concat([Buffer.of(text.length), Buffer.from(text, 'latin1')]);
}

export const header = (version = 3): Buffer => Buffer.concat([Buffer.from('QEVM'), u32(version)]);

/** 0x07, u32 length, name; subsections are 0x05, str8 name, u32 version, fields. */
export function configuration(machine: string, capabilities: string[] = []): Buffer {
  const parts = [Buffer.of(7), u32(machine.length), Buffer.from(machine)];
  if (capabilities.length > 0) {
    const fields = [u32(capabilities.length), ...capabilities.map(str8)];
    parts.push(Buffer.of(5), str8('configuration/capabilities'), u32(1), ...fields);
  }
  return Buffer.concat(parts);
}

export interface Framing {
  readonly footers: boolean;
}

function footer(id: number, { footers }: Framing): Buffer {
  return footers ? Buffer.concat([Buffer.of(0x7e), u32(id)]) : Buffer.alloc(0);
}

function named(type: number) {
  return (id: number, name: string, version: number, payload: Buffer, framing: Framing): Buffer =>
    Buffer.concat([
      Buffer.of(type),
      u32(id),
      str8(name),
      u32(0),
      u32(version),
      payload,
      footer(id, framing),
    ]);
}

function numbered(type: number) {
  return (id: number, payload: Buffer, framing: Framing): Buffer =>
    Buffer.concat([Buffer.of(type), u32(id), payload, footer(id, framing)]);
}

export const start = named(1);
export const full = named(4);
export const part = numbered(2);
export const end = numbered(3);

export const command = (id: number, data: Buffer): Buffer =>
  Buffer.concat([Buffer.of(8), u16(id), u16(data.length), data]);

/** End mark, and the description of devices of one buffer each. */
export function tail(devices: { name: string; size: number }[] | undefined): Buffer {
  if (devices === undefined) return Buffer.of(0);
  const json = JSON.stringify({
    page_size: 4096,
    devices: devices.map(({ name, size }) => ({
      name,
      instance_id: 0,
      vmsd_name: name,
      version: 1,
      fields: [{ name: 'data', type: 'buffer', size }],
    })),
  });
  return Buffer.concat([Buffer.of(0, 6), u32(json.length), Buffer.from(json)]);
}

const PAGE = Buffer.alloc(4096, 0x50);

/** Payloads of `ram` for one block: MEM_SIZE with the list; pages, half of them zero; EOS. */
export const ram = {
  setup: (name: string, length: number): Buffer =>
    Buffer.concat([u64(BigInt(length) | 4n), str8(name), u64(length), u64(0x10)]),
  round: (name: string, pages: number): Buffer => {
    const words: Buffer[] = [];
    for (let i = 0; i < pages; i++) {
      const again = i === 0 ? 0 : 0x20;
      const zero = i % 2 === 1;
      words.push(u64(i * 4096 + again + (zero ? 2 : 8)));
      if (i === 0) words.push(str8(name));
      words.push(zero ? Buffer.of(0) : PAGE);
    }
    return Buffer.concat([...words, u64(0x10)]);
  },
  empty: u64(0x10),
};

/** An HPTE with V set: `dw0` and `dw1`. */
export function hpte(seed: number, flags = 0x1): Buffer {
  const dw0 = 0x4000000000000000n | (BigInt(seed) << 12n) | BigInt(flags | 1);
  return Buffer.concat([u64(dw0), u64((BigInt(seed) << 12n) | 0x190n)]);
}

/** A chunk of `spapr/htab`: u32 index, u16 n_valid, u16 n_invalid, entries. */
export function chunk(index: number, entries: Buffer[], nInvalid = 0): Buffer {
  return Buffer.concat([u32(index), u16(entries.length), u16(nInvalid), ...entries]);
}

export const htabPart = (...chunks: Buffer[]): Buffer =>
  Buffer.concat([u32(0), ...chunks, Buffer.alloc(8)]);

/** A small pseries guest: RAM, an HPT of order 18 in two parts, one device. */
export function smallGuest(options: Partial<Framing> & { vmdesc?: boolean } = {}): Buffer {
  const framing = { footers: options.footers ?? true };
  const device = Buffer.alloc(24, 0x11);
  return Buffer.concat([
    header(),
    configuration('pseries-7.2'),
    start(2, 'ram', 4, ram.setup('ppc_spapr.ram', 1 << 20), framing),
    start(5, 'spapr/htab', 1, u32(18), framing),
    part(2, ram.round('ppc_spapr.ram', 8), framing),
    part(5, htabPart(chunk(1, [hpte(1), hpte(2, 0x10)]), chunk(9, [hpte(3)], 4)), framing),
    command(11, Buffer.alloc(0)),
    end(2, ram.empty, framing),
    end(5, htabPart(chunk(2, [hpte(4)]), chunk(9, [], 1)), framing),
    full(0, 'timer', 2, device, framing),
    tail(options.vmdesc === false ? undefined : [{ name: 'timer', size: device.length }]),
  ]);
}
