import { BufferSource, describeStream, findVmdesc, readVmstateDump } from 'spapr-htab';
import { expect, test } from 'vitest';
import { described, dumpText, field } from '../compat/support.js';
import { scratchFile } from '../helpers/sources.js';
import { header, u32 } from '../helpers/stream.js';

/** Processor time of this process, in milliseconds: others do not count, nor does waiting for them. */
const now = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** How long it works, and the longest that nobody else gets a turn meanwhile. */
async function measured(work: () => Promise<unknown>): Promise<{ all: number; longest: number }> {
  let longest = 0;
  let last = now();
  let going = true;
  const turn = (): void => {
    const at = now();
    longest = Math.max(longest, at - last);
    last = at;
    if (going) setImmediate(turn);
  };
  const before = last;
  setImmediate(turn);
  await work();
  going = false;
  turn();
  return { all: now() - before, longest };
}

const stream = (json: string): Buffer =>
  Buffer.concat([header(), Buffer.of(0, 6), u32(json.length), Buffer.from(json)]);
const times = (count: number, item: string): string => Array(count).fill(item).join(', ');

/** As many values as that takes. */
const limits = { vmdescValues: 2_000_000 };

const HOSTILE: [string, string][] = [
  [
    'fields',
    `{"devices": [{"name": "d", "fields": [${times(300_000, '{"name": "a", "size": 1}')}]}]}`,
  ],
  [
    'subsections',
    `{"devices": [{"name": "d", "fields": [], "subsections": [${times(300_000, '{"vmsd_name": "s", "fields": []}')}]}]}`,
  ],
  [
    'states of a field',
    `{"devices": [{"name": "d", "fields": [{"size": 1, ${times(900_000, '"vmsd_name": 1')}}]}]}`,
  ],
  [
    'devices',
    `{"devices": [${Array.from({ length: 400_000 }, (_, i) => `{"name": "${i}"}`).join()}]}`,
  ],
  ['values', `{"devices": [], "x": [${times(1_900_000, '1')}]}`],
];

test.each(HOSTILE)('a description of very many %s gives others a turn', async (_, json) => {
  const source = new BufferSource(stream(json));
  const { all, longest } = await measured(async () => {
    expect((await describeStream(source, { limits })).vmdesc).toBeDefined();
  });
  expect(longest).toBeLessThan(all / 3);
});

test('so does a dump of very many fields', async () => {
  const fields = Array.from({ length: 50_000 }, (_, i) => field(`f${i}`, 4));
  const path = scratchFile('dump.json', dumpText([described('d', fields)]));
  const { all, longest } = await measured(() => readVmstateDump(path));
  expect(longest).toBeLessThan(all / 3);
});

test('a signal ends the work in its middle', async () => {
  const [[, json] = ['', '']] = HOSTILE;
  const source = new BufferSource(stream(json));
  const whole = await measured(() => findVmdesc(source, 8, limits));
  const abort = new AbortController();
  const aborted = await measured(async () => {
    const work = findVmdesc(source, 8, limits, abort.signal);
    setTimeout(() => abort.abort(), 5);
    await expect(work).rejects.toMatchObject({ code: 'E_ABORTED' });
  });
  expect(aborted.all).toBeLessThan(whole.all / 2);
  const reading = describeStream(source, { limits, signal: AbortSignal.timeout(5) });
  await expect(reading).rejects.toMatchObject({ code: 'E_ABORTED' });
});
