import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import {
  BufferSource,
  type ByteSource,
  capture,
  checkSnapshot,
  convert,
  DEFAULT_LIMITS,
  extractRam,
  type HashPageTable,
  HtabFd,
  IterableSource,
  inspect,
  inspectDevices,
  LimitError,
  type LimitName,
  type LimitOptions,
  openContainer,
  openHpt,
  parseVmdesc,
  rewrite,
  SoftwareHtab,
  verify,
} from 'spapr-htab';
import { describe, expect, test } from 'vitest';
import { limitsOf, DEFAULT_LIMITS as SOURCE } from '../src/limits.js';
import { dump, dumpText } from './compat/support.js';
import { makeLibvirt } from './container/make-libvirt.js';
import { makeQcow2 } from './container/make-qcow2.js';
import { cli } from './helpers/cli.js';
import { scratchFile } from './helpers/sources.js';
import {
  chunk,
  command,
  configuration,
  full,
  header,
  hpte,
  htabPart,
  smallGuest,
  start,
  tail,
  u32,
  u64,
} from './helpers/stream.js';

const FRAMING = { footers: true };
const sink = { write: async () => {} };
const pipe = (bytes: Uint8Array) => new IterableSource([bytes], 'pipe');
const memory = (bytes: Uint8Array) => new BufferSource(bytes);

/** A guest of SLOF's size whose table has an entry in each of so many stretches. */
function scattered(entries: number): Buffer {
  const chunks = Array.from({ length: entries }, (_, i) => chunk(i * 65536, [hpte(i)]));
  return Buffer.concat([u32(40), htabPart(...chunks)]);
}

const twoSnapshots = makeQcow2({
  snapshots: ['1', '2'].map((id) => ({ id, name: `s${id}`, state: smallGuest() })),
}).image;

const blocks = Buffer.concat([
  u64((2 << 20) | 4),
  ...['a', 'b'].flatMap((name) => [Buffer.of(1), Buffer.from(name), u64(1 << 20)]),
  u64(0x10),
]);
const twoBlocks = Buffer.concat([header(), start(2, 'ram', 4, blocks, FRAMING), tail([])]);

/** Device sections that nothing describes, the second without its footer. */
const footless = Buffer.concat([
  header(),
  full(1, 'a', 1, Buffer.alloc(9), FRAMING),
  full(2, 'b', 1, Buffer.alloc(9), { footers: false }),
  Buffer.alloc(3 << 20, 1),
]);

/** 17 members of a gzip that each become 64 MiB. */
function bomb(): Buffer {
  const member = gzipSync(Buffer.alloc(64 << 20), { level: 9 });
  return Buffer.concat(Array.from({ length: 17 }, () => member));
}

type Run = (limits: LimitOptions) => Promise<unknown>;
const info =
  (bytes: Uint8Array): Run =>
  (limits) =>
    inspect(memory(bytes), { limits }).then(({ refusal }) => {
      if (refusal !== undefined) throw refusal;
    });
const check: Run = async (limits) => {
  const target = scratchFile('vmstate.json', dumpText([]));
  return checkSnapshot(memory(smallGuest()), target, { limits });
};
const vmdesc: Run = async (limits) => {
  parseVmdesc(Buffer.from('{"devices": [{"name": "d", "fields": [{"size": 1}]}]}'), 0, limits);
};

/** For each limit: a value that an input stays within, one that it does not, and who says so. */
const CASES: Record<
  Exclude<LimitName, 'deviceBytes' | 'deviceNodes'>,
  [enough: number, less: number, run: Run]
> = {
  containers: [2, 1, info(gzipSync(gzipSync(smallGuest())))],
  libvirtBytes: [34, 33, info(makeLibvirt({ stream: smallGuest() }))],
  spoolBytes: [
    smallGuest().length,
    smallGuest().length - 1,
    (limits) => rewrite(pipe(smallGuest()), sink, { limits }),
  ],
  decompressedBytes: [smallGuest().length, smallGuest().length - 1, info(gzipSync(smallGuest()))],
  decompressionRatio: [
    2000,
    900,
    (limits) => openContainer(memory(bomb()), { limits }).then(drain),
  ],
  qcow2Snapshots: [
    2,
    1,
    (limits) => convert(memory(twoSnapshots), sink, { to: 'kernel', snapshot: '1', limits }),
  ],
  qcow2TableBytes: [
    200,
    90,
    (limits) => convert(memory(twoSnapshots), sink, { to: 'kernel', snapshot: '1', limits }),
  ],
  qcow2ExtraBytes: [
    24,
    23,
    (limits) => convert(memory(twoSnapshots), sink, { to: 'kernel', snapshot: '1', limits }),
  ],
  qcow2L1Bytes: [
    1 << 20,
    8,
    (limits) => convert(memory(twoSnapshots), sink, { to: 'kernel', snapshot: '1', limits }),
  ],
  machineBytes: [11, 10, info(smallGuest())],
  capabilities: [
    2,
    1,
    info(Buffer.concat([header(), configuration('pseries-7.2', ['a', 'b']), tail([])])),
  ],
  sections: [3, 2, info(smallGuest())],
  parts: [7, 6, info(smallGuest())],
  commands: [1, 0, info(smallGuest())],
  warnings: [1, 0, info(Buffer.concat([header(), command(99, Buffer.alloc(0)), tail([])]))],
  ramBlocks: [2, 1, (limits) => extractRam(memory(twoBlocks), scratchFile('ram'), { limits })],
  footerSearchBytes: [
    1 << 30,
    1 << 20,
    (limits) =>
      info(footless)(limits).catch((error) => {
        // Without the limit it goes on to the end of the file, and finds none.
        if (error.code !== 'E_SECTION_LENGTH') throw error;
      }),
  ],
  vmdescBytes: [53, 52, vmdesc],
  vmdescDepth: [5, 4, vmdesc],
  vmdescValues: [7, 6, vmdesc],
  vmstateBytes: [dumpText([]).length, dumpText([]).length - 1, check],
  vmstateDepth: [20, 2, check],
  vmstateValues: [100, 3, check],
  order: [18, 17, info(smallGuest())],
  tableBytes: [
    2 ** 30,
    2 ** 20,
    (limits) => openHpt(memory(scattered(5000)), { limits }).then(table),
  ],
};

const table = (hpt: { table(): Promise<HashPageTable> }) => hpt.table();

async function drain(hpt: { source: ByteSource; close(): Promise<void> }): Promise<void> {
  const buffer = Buffer.alloc(1 << 20);
  try {
    for (let at = 0; ; ) {
      const count = await hpt.source.read(buffer, at);
      if (count === 0) return;
      at += count;
    }
  } finally {
    await hpt.close();
  }
}

async function refusal(promise: Promise<unknown>): Promise<LimitError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LimitError);
  return error as LimitError;
}

describe('each limit', () => {
  test('is looked at here, or makes no error', () => {
    const named = [...Object.keys(CASES), 'deviceBytes', 'deviceNodes'];
    expect(named.sort()).toEqual(Object.keys(DEFAULT_LIMITS).sort());
  });

  test.each(Object.entries(CASES))('%s', async (name, [enough, less, run]) => {
    await run({ [name]: enough });
    const error = await refusal(run({ [name]: less }));
    expect(error).toMatchObject({ code: 'E_LIMIT', limit: name, value: less });
    expect(error.toJSON()).toMatchObject({ limit: name, value: less });
    expect(error.message).toContain(`limits: { ${name}: N }`);
    expect(error.message).toContain(`--limit ${name}=N`);
    expect(error.expected).toContain(`at most ${less}`);
    await run({});
  });

  test('of device state leaves out what is too much', async () => {
    const reports = async (limits: LimitOptions) => {
      const all = [];
      for await (const report of inspectDevices(memory(smallGuest()), { limits })) all.push(report);
      return all;
    };
    expect(await reports({ deviceBytes: 24 })).toMatchObject([{ reason: undefined }]);
    expect(await reports({ deviceBytes: 23 })).toMatchObject([{ reason: 'too large' }]);
    expect(await reports({ deviceNodes: 0 })).toMatchObject([
      { tree: { warnings: [{ code: 'W_DEVICE_LIMIT' }] } },
    ]);
  });

  test('of the description makes the walk go on without one, and say why', async () => {
    for (const [name, value] of [
      ['vmdescBytes', 20],
      ['vmdescDepth', 2],
      ['vmdescValues', 3],
    ] as const) {
      const { warnings } = await inspect(memory(smallGuest()), { limits: { [name]: value } });
      expect(warnings).toContainEqual(
        expect.objectContaining({
          code: 'W_VMDESC_DAMAGED',
          message: expect.stringContaining(`--limit ${name}=N`),
        }),
      );
    }
  });
});

describe('every way in takes them', () => {
  const limits = { order: 17 };
  const guest = () => memory(smallGuest());
  const output = () => scratchFile('output');
  const ways: [string, () => Promise<unknown>][] = [
    ['openHpt', () => openHpt(guest(), { limits }).then(table)],
    ['inspect', () => inspect(guest(), { limits })],
    ['convert', () => convert(guest(), output(), { to: 'image', limits })],
    [
      'convert --canonical',
      () => convert(guest(), sink, { to: 'kernel', canonical: true, limits }),
    ],
    ['rewrite', () => rewrite(guest(), output(), { limits })],
    ['checkSnapshot', () => checkSnapshot(guest(), dump([]), { limits })],
    ['extractRam', () => extractRam(guest(), output(), { limits })],
    [
      'rewrite with another HPT',
      async () => {
        const htab = memory(Buffer.concat([u32(18), htabPart()]));
        const bare = memory(Buffer.concat([header(), tail([])]));
        await rewrite(bare, output(), { htab, limits });
      },
    ],
  ];
  test.each(ways)('%s', async (_, way) => {
    expect((await refusal(way())).limit).toBe('order');
  });

  test('verify makes a finding of it', async () => {
    const { ok, findings } = await verify(guest(), { limits });
    expect(ok).toBe(false);
    expect(findings).toMatchObject([{ severity: 'error', code: 'E_LIMIT' }]);
  });

  test('capture', async () => {
    const vm = new SoftwareHtab({ order: 18 });
    const small = { limits: { spoolBytes: 8 } };
    expect((await refusal(capture(vm.open(), sink, { to: 'section', ...small }))).limit).toBe(
      'spoolBytes',
    );
    expect(vm.open()).toBeInstanceOf(HtabFd);
  });
});

describe('options that are none', () => {
  test.each([
    ['another name', { sectionz: 1 }, 'there is no such limit'],
    ['a name that every object has', { toString: 1 }, 'there is no such limit'],
    ['a prototype', JSON.parse('{"__proto__": 1}'), 'there is no such limit'],
    ['a fraction', { sections: 1.5 }, 'no whole number'],
    ['less than nothing', { sections: -1 }, 'no whole number'],
    ['NaN', { sections: Number.NaN }, 'no whole number'],
    ['text', { sections: '7' }, 'no whole number'],
  ])('%s', async (_, limits, message) => {
    const promise = inspect(memory(smallGuest()), { limits: limits as LimitOptions });
    await expect(promise).rejects.toThrow(message);
    await expect(promise).rejects.toMatchObject({ code: 'E_USAGE' });
  });

  test('what the caller changes afterwards counts from the next call on; the defaults are fixed', async () => {
    const limits: { sections: number } = { sections: 1000 };
    await inspect(memory(smallGuest()), { limits });
    limits.sections = 1;
    const promise = inspect(memory(smallGuest()), { limits });
    await expect(promise).rejects.toMatchObject({ code: 'E_LIMIT', value: 1 });
    expect(Object.isFrozen(DEFAULT_LIMITS)).toBe(true);
  });

  test('undefined is the default, Infinity is no limit', () => {
    expect(limitsOf({ sections: undefined, parts: Number.POSITIVE_INFINITY })).toEqual({
      ...SOURCE,
      parts: Number.POSITIVE_INFINITY,
    });
  });
});

describe('--limit', () => {
  const guest = scratchFile('guest.mig', smallGuest());

  test('more than once, with units, and none', async () => {
    const args = ['--limit', 'sections=3', '--limit', 'vmdescBytes=1K', '--limit', 'parts=none'];
    expect((await cli(['info', guest, ...args])).code).toBe(0);
    const refused = await cli(['info', guest, ...args, '--limit', 'sections=2']);
    expect(refused).toMatchObject({ code: 3, stdout: Buffer.alloc(0) });
    expect(refused.stderr).toMatch(/raise the limit sections .*--limit sections=N.*\[E_LIMIT\]\n$/);
  });

  test.each(['sections', 'sections=', '=3', 'sections=-1', 'sections=3X', 'sections=9999999T'])(
    '%s is none',
    async (text) => {
      const { code, stderr } = await cli(['info', guest, '--limit', text]);
      expect(code).toBe(2);
      expect(stderr).toContain('NAME=NUMBER');
    },
  );

  test('a name that is none is said with those that are', async () => {
    const { code, stderr } = await cli(['info', guest, '--json', '--limit', '__proto__=3']);
    expect(code).toBe(2);
    expect(JSON.parse(stderr).error).toMatchObject({
      code: 'E_USAGE',
      actual: '__proto__',
      expected: Object.keys(DEFAULT_LIMITS).join(', '),
    });
  });
});

test('docs/limits.md has every limit with its default, and no other', () => {
  const rows = readFileSync('docs/limits.md', 'utf8')
    .split('\n')
    .map((line) => /^\| `(\w+)` \| ([^|]+) \|/.exec(line))
    .filter((match) => match !== null)
    .map(([, name, value = '']) => [name, numberOf(value.trim())]);
  expect(rows).toEqual(Object.entries(DEFAULT_LIMITS));
});

function numberOf(text: string): number {
  const [, number, unit] = /^([\d,]+)(?: (KiB|MiB|GiB|TiB))?$/.exec(text) ?? [];
  const units = [undefined, 'KiB', 'MiB', 'GiB', 'TiB'];
  return Number(number?.replaceAll(',', '')) * 1024 ** units.indexOf(unit);
}
