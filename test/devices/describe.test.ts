import { describe, expect, it } from 'vitest';
import { BufferSource } from '../../src/bytes/source.js';
import { type DescribeDevicesOptions, describeDevices } from '../../src/devices/describe.js';
import type { StreamWarning } from '../../src/qevm/elements.js';
import { configuration, full, header, ram, smallGuest, start } from '../helpers/stream.js';
import { found } from './reading.js';
import { type EncodedState, pointers, state, u32, value, vmdesc } from './writer.js';

const FRAMING = { footers: true };

function stream(devices: [id: number, name: string, device: EncodedState][]): Buffer {
  const json = vmdesc(devices.map(([, name, { json }]) => ({ name, json })));
  return Buffer.concat([
    header(),
    configuration('pseries-7.2'),
    start(2, 'ram', 4, ram.setup('ppc_spapr.ram', 1 << 20), FRAMING),
    ...devices.map(([id, name, { version, bytes }]) => full(id, name, version, bytes, FRAMING)),
    Buffer.of(0, 6),
    u32(json.length),
    json,
  ]);
}

async function reportsOf(bytes: Buffer, options: DescribeDevicesOptions = {}) {
  const reports = [];
  for await (const report of describeDevices(new BufferSource(bytes), options)) {
    reports.push(report);
  }
  return reports;
}

const timer = state('timer', 2, [value('ticks', 'int64', Buffer.alloc(8, 1), 0x0101010101010101n)]);
const item = state('item', 1, [value('n', 'uint32', u32(7), 7)]);
const pools = state('pools', 1, [pointers('pool', [item, null, item], '<=9.1', true)]);

describe('describeDevices', () => {
  it('decodes the device sections in order, the same name twice', async () => {
    const bytes = stream([
      [3, 'timer', timer],
      [4, 'x', item],
      [5, 'x', timer],
    ]);
    const reports = await reportsOf(bytes);
    expect(reports.map((r) => [r.section.id, r.section.name, r.payloadLength])).toEqual([
      [3, 'timer', 8],
      [4, 'x', 4],
      [5, 'x', 8],
    ]);
    expect(reports.map((r) => r.tree && found(r.tree.state))).toEqual(
      [timer, item, timer].map((device) => device.expected),
    );
    const [first] = reports;
    expect(bytes.subarray(first?.payloadOffset, (first?.payloadOffset ?? 0) + 8)).toEqual(
      timer.bytes,
    );
  });

  it('recovers by the footer where the description is wrong, and says both', async () => {
    const warnings: StreamWarning[] = [];
    const reports = await reportsOf(
      stream([
        [3, 'pools', pools],
        [4, 'timer', timer],
      ]),
      { onWarning: (warning) => warnings.push(warning) },
    );
    expect(warnings).toMatchObject([{ code: 'W_LENGTH_BY_FOOTER' }]);
    expect(reports.map((r) => r.tree?.warnings.map((w) => [w.code, w.path]))).toEqual([
      [['W_NULL_POINTERS', 'pools / pool']],
      [],
    ]);
    expect(reports.map((r) => r.tree && found(r.tree.state))).toEqual([
      pools.expected,
      timer.expected,
    ]);
  });

  it('reports devices without description, and those that are too large', async () => {
    const [bare] = await reportsOf(smallGuest({ vmdesc: false }), {});
    expect(bare).toMatchObject({ tree: undefined, reason: 'no description', payloadLength: 24 });
    const reports = await reportsOf(
      stream([
        [3, 'timer', timer],
        [4, 'x', item],
      ]),
      {
        limits: { deviceBytes: 4 },
      },
    );
    expect(reports.map((r) => [r.reason, r.payloadLength])).toEqual([
      ['too large', 8],
      [undefined, 4],
    ]);
  });

  it('ends when it is told to', async () => {
    const signal = AbortSignal.abort();
    await expect(reportsOf(smallGuest(), { signal })).rejects.toMatchObject({ code: 'E_ABORTED' });
  });
});
