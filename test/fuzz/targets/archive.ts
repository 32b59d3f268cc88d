import { createHash } from 'node:crypto';
import {
  BufferSource,
  ByteReader,
  decodeSection,
  encodeArchive,
  type HtabItem,
  readArchive,
} from 'spapr-htab';
import { archives, ORIGIN } from '../corpus.js';
import { gathered, ItemLog, logged, textOf } from '../digest.js';
import { payloads } from '../generate/blocks.js';
import { archiveLayout } from '../layouts/archive.js';
import { must, type Target } from '../target.js';
import { sampled } from './sampled.js';

/** The MessagePack archive of an HPT. */
export const archive: Target = {
  name: 'archive',
  variants: ['any'],
  feeds: 'any',
  valid: sampled(payloads, (list) => {
    const items = decodeSection(new ByteReader(new BufferSource(Buffer.concat(list))));
    return gathered(encodeArchive(items, ORIGIN));
  }),
  seeds: archives,
  layout: archiveLayout,
  repair: (bytes, dice) => {
    if (dice.chance(0.2) || bytes.length < 34) return bytes;
    const body = bytes.subarray(0, bytes.length - 34);
    const sum = createHash('sha256').update(body).digest();
    return Buffer.concat([body, Buffer.of(0xc4, 32), sum]);
  },
  parse: async (source, { bytes }) => {
    await using reading = source;
    const { header, items } = await readArchive(new ByteReader(reading));
    const log = new ItemLog();
    const again = await gathered(encodeArchive(logged(items, log), header));
    if (!again.equals(bytes)) {
      // Keys in another order, numbers in longer forms: then it must say the same.
      const reading = await readArchive(new ByteReader(new BufferSource(again)));
      const other = new ItemLog();
      for await (const item of reading.items) other.add(item satisfies HtabItem);
      must(other.text() === log.text(), 're-encoding', () => `${other.text()}, not ${log.text()}`);
    }
    return { value: `${textOf(header)} ${log.text()}`, kind: log.kind(), offsets: log.offsets };
  },
};
