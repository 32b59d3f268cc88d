import { readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import {
  BufferSource,
  encodeArchive,
  HashPageTable,
  openHpt,
  type VerifyReport,
  verify,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { makeLibvirt } from './container/make-libvirt.js';
import { cli } from './helpers/cli.js';
import { CONTAINERS, fixture, fixturesOf, load } from './helpers/fixtures.js';
import { collect, SOURCE_KINDS, scratchFile, withSource } from './helpers/sources.js';
import * as s from './helpers/stream.js';

const of = (bytes: Uint8Array, options = {}) => verify(new BufferSource(bytes), options);

function codes({ findings }: VerifyReport, severity: 'error' | 'warning'): string[] {
  return findings.filter((one) => one.severity === severity).map(({ code }) => code);
}

const framing = { footers: true };
/** A stream whose HPT of order 18 is said by these elements of section 5. */
function guest(...htab: Buffer[]): Buffer {
  return Buffer.concat([s.header(), s.configuration('pseries-7.2'), ...htab, s.tail([])]);
}
const start = (order: number) => s.start(5, 'spapr/htab', 1, s.u32(order), framing);
const end = (...chunks: Buffer[]) => s.end(5, s.htabPart(...chunks), framing);

/** A bolted 64 KiB page of segment 0 and page 0 in a 256 MiB segment: hash 0, primary PTEG 0. */
const PLACED = Buffer.concat([s.u64(0x15n), s.u64(0x1190n)]);

describe('names that a terminal does not show', () => {
  // QEMU makes them of what its user called devices, and sends what strlen() counts.
  const names = ['a b', '\x1b[31m', 'caf\xe9', '\xc3\xa9', '\x7f', '\t', '~\x01\x02\x03'];
  // What may look like the beginning of a section in the state of a device, behind its own footer.
  const traps = [
    Buffer.from('7e000000630400000000', 'hex'),
    Buffer.from('7e00000063040000006402000000000000000001000000', 'hex'),
    Buffer.from('7e00000063040000006301fe000000000000000100', 'hex'),
  ];

  test.each(names)('%j', async (name) => {
    for (const trap of traps) {
      const state = Buffer.concat([Buffer.alloc(9, 0x33), trap, Buffer.alloc(700, 0x44)]);
      const bytes = Buffer.concat([
        s.header(),
        s.configuration('pseries-7.2'),
        start(18),
        end(s.chunk(0, [PLACED])),
        s.full(99, 'first', 1, state, framing),
        s.full(7, name, 2, Buffer.alloc(40, 0x55), framing),
        s.full(8, `${name}${name}`, 0, Buffer.alloc(4), framing),
        s.full(9, 'last', 1, Buffer.alloc(3), framing),
        s.tail(undefined),
      ]);
      const plain = await of(bytes);
      const packed = await of(gzipSync(bytes));
      for (const report of [plain, packed]) {
        expect(codes(report, 'error')).toEqual([]);
        expect(report.stream?.sections.map(({ id, length }) => [id, length])).toEqual([
          [5, 4 + 4 + 24 + 8],
          [99, state.length],
          [7, 40],
          [8, 4],
          [9, 3],
        ]);
      }
    }
  });
});

describe('sound files', () => {
  const linux = fixturesOf('snapshot').filter(({ file }) => !file.includes('slof'));

  test.each(linux)('$file', async (one) => {
    const report = await of(load(one));
    expect(report).toMatchObject({ ok: true, format: 'snapshot' });
    expect(codes(report, 'error')).toEqual([]);
    const { table, hpt } = report;
    if (hpt?.radix) {
      expect(table).toBeUndefined();
    } else {
      expect(table?.valid).toBe(hpt?.valid);
      expect((table?.primary ?? 0) + (table?.secondary ?? 0)).toBe(hpt?.valid);
      expect(table?.valid).toBeGreaterThan(100);
      expect(table?.findings).toEqual([]);
    }
  });

  test.each(SOURCE_KINDS)('the same by $name', async (kind) => {
    const bytes = load(fixture('qemu/linux-p8-live.mig.gz'));
    const report = await withSource(kind, bytes, (source) => verify(source));
    expect(report.ok).toBe(true);
    expect(report.table).toEqual((await of(bytes)).table);
  });

  test('the dumps of a kernel of its guest', async () => {
    for (const name of ['h8-guest.htab', 'h8-guest.bolted', 'l9dis-guest.htab']) {
      const report = await of(load(fixture(`kvm/${name}.gz`)));
      expect(report).toMatchObject({ ok: true, format: 'kernel', findings: [] });
      expect(report.table?.bolted).toBeGreaterThan(16_000);
    }
  });

  test('one entry in its place', async () => {
    const report = await of(guest(start(18), end(s.chunk(0, [PLACED]))));
    expect(report).toMatchObject({ ok: true, findings: [], table: { valid: 1, primary: 1 } });
  });
});

describe('what is wrong is a finding', () => {
  test('an entry in another PTEG', async () => {
    // 64 KiB pages: the seven lowest bits of the hash are not in the entry, so 128 PTEGs further.
    const report = await of(guest(start(18), end(s.chunk(8 * 128, [PLACED]))));
    expect(report.ok).toBe(false);
    expect(codes(report, 'error')).toEqual(['misplaced']);
    expect(report.findings[0]?.message).toContain('slot 1024');
  });

  test('guests that ignore the hash', async () => {
    const report = await of(load(fixture('containers/live-11.1.mig.gz')));
    expect(codes(report, 'error')).toEqual(['misplaced']);
  });

  test.each([
    ['entries without V', Buffer.concat([s.u64(0x14n), s.u64(0x1190n)]), 'not-valid'],
    ['a page size that does not exist', Buffer.concat([s.u64(0x15n), s.u64(0x2190n)]), 'page-size'],
    [
      'a reserved segment size',
      Buffer.concat([s.u64(0x8000000000000015n), s.u64(0x1190n)]),
      'segment-size',
    ],
  ])('%s', async (_, entry, code) => {
    const report = await of(guest(start(18), end(s.chunk(0, [entry]))));
    expect(codes(report, 'error')).toEqual([code]);
  });

  test('damage in the walk, with all that was known by then', async () => {
    const whole = s.smallGuest();
    for (const cut of [30, 200, 4000, whole.length - 400]) {
      const report = await of(whole.subarray(0, cut));
      expect(report.ok).toBe(false);
      expect(report.format).toBe('snapshot');
      const [found] = report.findings.filter(({ severity }) => severity === 'error');
      expect(found?.code).toMatch(/^E_/);
      expect(found?.offset).toBeLessThanOrEqual(cut);
    }
  });

  test('a footer of another section', async () => {
    const bytes = Buffer.from(guest(start(18), end()));
    bytes[bytes.lastIndexOf(0x7e) + 4] = 9;
    expect(codes(await of(bytes), 'error')).toEqual(['E_FOOTER']);
  });

  test('a second START', async () => {
    const report = await of(guest(start(18), start(19), end()));
    expect(codes(report, 'error')).toEqual(['E_SECTION']);
  });

  test('what nothing tells the length of', async () => {
    const none = { footers: false };
    const bytes = Buffer.concat([
      s.header(),
      s.start(5, 'spapr/htab', 1, s.u32(18), none),
      s.end(5, s.htabPart(), none),
      s.start(9, 'strange', 1, Buffer.alloc(64, 0x11), none),
    ]);
    const report = await of(bytes);
    expect(codes(report, 'error')).toEqual(['E_SECTION_LENGTH']);
    expect(report.findings.find(({ severity }) => severity === 'error')?.message).toContain(
      'strange',
    );
  });

  test('an image that libvirt did not finish keeps its warning', async () => {
    const image = makeLibvirt({
      magic: 'LibvirtQemudPart',
      stream: s.smallGuest().subarray(0, 3000),
    });
    const report = await of(image);
    expect(codes(report, 'warning')).toContain('W_INCOMPLETE');
    expect(codes(report, 'error')).toHaveLength(1);
    expect(report.layers).toHaveLength(1);
  });

  test('an XML of another machine type', async () => {
    const xml = "<domain><os><type arch='ppc64' machine='pseries-9.2'>hvm</type></os></domain>";
    const report = await of(makeLibvirt({ xml, stream: guest(start(18), end()) }));
    expect(report.ok).toBe(true);
    expect(codes(report, 'warning')).toEqual(['W_XML_MACHINE']);
  });

  test('every byte of an archive counts', async () => {
    await using hpt = await openHpt(new BufferSource(guest(start(18), end(s.chunk(0, [PLACED])))));
    const origin = { source: { kind: 'test' }, byteOrder: null, host: null };
    const archive = await collect(encodeArchive(hpt.items(), origin));
    expect((await of(archive)).ok).toBe(true);
    for (let at = 40; at < archive.length; at += 7) {
      const damaged = Buffer.from(archive);
      damaged[at] = (damaged[at] ?? 0) ^ 0x01;
      const report = await of(damaged, { from: 'archive' });
      expect(report.ok, `byte ${at}`).toBe(false);
    }
  });
});

describe('what cannot be looked into is an error', () => {
  test('blocks of a table of unknown order', async () => {
    const blocks = s.chunk(3, [PLACED]);
    const options = { from: 'kernel', byteOrder: 'big' } as const;
    expect(codes(await of(blocks, options), 'warning')).toEqual(['W_ORDER']);
    const report = await of(s.chunk(0, [PLACED]), { ...options, order: 18 });
    expect(report).toMatchObject({ ok: true, table: { valid: 1 } });
  });

  test('an order that the input contradicts', async () => {
    const bytes = guest(start(18), end());
    await expect(of(bytes, { order: 30 })).rejects.toMatchObject({ code: 'E_ORDER' });
    const table = new HashPageTable(19);
    await expect(of(bytes, { order: table.order })).rejects.toMatchObject({ code: 'E_ORDER' });
  });

  test('an order that no HPT has leaves no file open', async () => {
    const path = scratchFile('guest.mig', s.smallGuest());
    const open = (): number => readdirSync('/proc/self/fd').length;
    await expect(verify(path, { order: 5 })).rejects.toMatchObject({ code: 'E_ORDER' });
    const before = open();
    for (let i = 0; i < 20; i++) await verify(path, { order: 5 }).catch(() => undefined);
    expect(open()).toBeLessThanOrEqual(before);
  });

  test('an unknown version', async () => {
    const bytes = guest(s.start(5, 'spapr/htab', 9, s.u32(18), framing), end());
    await expect(of(bytes)).rejects.toMatchObject({ code: 'E_UNSUPPORTED' });
  });
});

describe('the command', () => {
  test('sound, damaged, not supported, and as JSON', async () => {
    const sound = scratchFile('sound.mig', load(fixture('qemu/linux-p8-live.mig.gz')));
    const good = await cli(['verify', sound]);
    expect(good.code).toBe(0);
    expect(good.stdout.toString()).toContain('sound');
    expect(good.stdout.toString()).toMatch(/64\.0 KiB\s+64\.0 KiB\s+4325/);

    const bytes = guest(start(18), end(s.chunk(1024, [PLACED])));
    const bad = await cli(['verify', '--json', scratchFile('bad.mig', bytes)]);
    expect(bad.code).toBe(3);
    const report = JSON.parse(bad.stdout.toString()) as VerifyReport;
    expect(codes(report, 'error')).toEqual(['misplaced']);

    const disk = CONTAINERS.find(({ file }) => file.includes('qcow2-64k'));
    if (disk === undefined) throw new Error('no such fixture');
    const image = scratchFile('disk.qcow2', load(disk));
    expect((await cli(['verify', image])).code).toBe(2);
    expect((await cli(['verify', image, '--snapshot', '3'])).code).toBe(4);
    expect((await cli(['verify', scratchFile('nothing', Buffer.from('nothing'))])).code).toBe(3);
  });
});
