import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Reopenable } from '../../src/bytes/reopen.js';
import { type ByteSink, GatheringSink, PipeSink } from '../../src/bytes/sink.js';
import { BufferSource, type ByteSource, openFile } from '../../src/bytes/source.js';
import { type Patch, splice } from '../../src/rewrite/patch.js';
import { pattern, pipe, readAll, refusal } from '../container/support.js';
import { scratchFile } from '../helpers/sources.js';

class Kept {
  readonly pieces: Buffer[] = [];
  readonly sink: ByteSink = new PipeSink({
    write: async (bytes) => void this.pieces.push(Buffer.from(bytes)),
  });

  get bytes(): Buffer {
    return Buffer.concat(this.pieces);
  }
}

const put = (from: number, to: number, bytes: Buffer): Patch => ({
  from,
  to,
  write: (sink) => sink.append(bytes),
});

async function spliced(source: ByteSource, start: number, patches: Patch[]): Promise<Buffer> {
  const kept = new Kept();
  await splice(source, start, patches, kept.sink);
  return kept.bytes;
}

describe('splice', () => {
  const source = pattern(200_000);

  test('does what slices do, from any source', async () => {
    const cut = fc.record({ skip: fc.nat(70_000), length: fc.nat(70_000), put: fc.nat(100_000) });
    await fc.assert(
      fc.asyncProperty(fc.nat(5000), fc.array(cut, { maxLength: 4 }), async (start, cuts) => {
        const patches: Patch[] = [];
        const expected: Buffer[] = [];
        let at = start;
        for (const { skip, length, put: size } of cuts) {
          const from = Math.min(source.length, at + skip);
          const to = Math.min(source.length, from + length);
          const bytes = pattern(size, size);
          expected.push(source.subarray(at, from), bytes);
          patches.push(put(from, to, bytes));
          at = to;
        }
        const wanted = Buffer.concat([...expected, source.subarray(at)]);
        expect((await spliced(new BufferSource(source), start, patches)).equals(wanted)).toBe(true);
        expect((await spliced(pipe(source, 30_000), start, patches)).equals(wanted)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test('puts in where nothing is taken out, at both ends too', async () => {
    const text = Buffer.from('abc');
    const patches = [
      put(0, 0, Buffer.from('<')),
      put(1, 1, Buffer.from('|')),
      put(3, 3, Buffer.from('>')),
    ];
    expect((await spliced(new BufferSource(text), 0, patches)).toString()).toBe('<a|bc>');
  });

  test('refuses patches that overlap', async () => {
    const patches = [put(5, 9, text()), put(8, 10, text())];
    await expect(spliced(new BufferSource(source), 0, patches)).rejects.toThrow(RangeError);
    await expect(spliced(new BufferSource(source), 6, [put(5, 9, text())])).rejects.toThrow(
      RangeError,
    );
  });

  test('a source that became shorter is an error, not a shorter copy', async () => {
    const short = new BufferSource(source.subarray(0, 1000), 'shrunk');
    Object.defineProperty(short, 'size', { value: source.length });
    const error = await refusal(spliced(short, 10, []));
    expect(error).toMatchObject({ code: 'E_TRUNCATED', offset: 1000 });
    expect(error.message).toContain('shrunk');
  });

  test('is aborted between pieces', async () => {
    const controller = new AbortController();
    const kept = new Kept();
    const write = async (sink: ByteSink): Promise<void> => {
      controller.abort();
      await sink.append(text());
    };
    const options = { signal: controller.signal };
    const error = await refusal(
      splice(new BufferSource(source), 0, [{ from: 10, to: 20, write }], kept.sink, options),
    );
    expect(error.code).toBe('E_ABORTED');
  });

  const text = (): Buffer => Buffer.from('text');
});

describe('GatheringSink', () => {
  test('gives the same bytes in the same order, and few pieces', async () => {
    const job = fc.oneof(
      fc.record({ kind: fc.constant('append' as const), size: fc.nat(200_000) }),
      fc.record({ kind: fc.constant('copy' as const), size: fc.nat(200_000) }),
      fc.record({ kind: fc.constant('hole' as const), size: fc.nat(3000) }),
      fc.record({ kind: fc.constant('append' as const), size: fc.nat(40) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(job, { maxLength: 30 }), async (jobs) => {
        const kept = new Kept();
        const sink = new GatheringSink(kept.sink);
        const bytes = pattern(200_000, 5);
        const source = new BufferSource(bytes);
        const expected: Buffer[] = [];
        let position = 0;
        for (const { kind, size } of jobs) {
          expected.push(kind === 'hole' ? Buffer.alloc(size) : bytes.subarray(0, size));
          if (kind === 'append') {
            // What was appended may be reused.
            const reused = Buffer.from(bytes.subarray(0, size));
            await sink.append(reused);
            reused.fill(0xaa);
          } else if (kind === 'copy') await sink.copy(source, 0, size);
          else await sink.hole(size);
          position += size;
          expect(sink.position).toBe(position);
        }
        await sink.flush();
        await sink.flush();
        expect(kept.bytes.equals(Buffer.concat(expected))).toBe(true);
        expect(kept.sink.position).toBe(position);
      }),
      { numRuns: 40 },
    );
  });

  test('small pieces become one write', async () => {
    const kept = new Kept();
    const sink = new GatheringSink(kept.sink);
    for (let i = 0; i < 20_000; i++) await sink.append(Buffer.alloc(10, i));
    await sink.flush();
    expect(kept.pieces.length).toBe(1);
  });

  test('one sink in another keeps the order', async () => {
    const kept = new Kept();
    const outer = new GatheringSink(kept.sink);
    await outer.append(Buffer.from('a'));
    await splice(new BufferSource(Buffer.from('-bc')), 1, [], outer);
    await outer.append(Buffer.from('d'));
    await outer.flush();
    expect(kept.bytes.toString()).toBe('abcd');
  });
});

describe('PipeSink', () => {
  test('holes are zeros, longer than one piece too', async () => {
    const kept = new Kept();
    await kept.sink.hole(0);
    await kept.sink.hole(2 * 1024 * 1024 + 17);
    expect(kept.bytes.length).toBe(2 * 1024 * 1024 + 17);
    expect(kept.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('a copy of nothing reads nothing', async () => {
    const kept = new Kept();
    await kept.sink.copy(new BufferSource(Buffer.alloc(0)), 99, 0);
    expect(kept.pieces).toEqual([]);
  });
});

describe('Reopenable', () => {
  test('a file is read again and again, whatever its name stands for', async () => {
    const path = scratchFile('input', Buffer.from('first'));
    await using input = await Reopenable.of(path, async (source) => source);
    const one = input.open();
    expect((await readAll(one)).toString()).toBe('first');
    await one.close();
    // Replaced, as `rewrite --force` does with its own input.
    const other = scratchFile('other', Buffer.from('second'));
    const { renameSync } = await import('node:fs');
    renameSync(other, path);
    const two = input.open();
    expect((await readAll(two)).toString()).toBe('first');
    expect(input).toMatchObject({ name: path, size: 5 });
    await two.close();
  });

  test('closing closes the source, once, and what was opened does not', async () => {
    let closed = 0;
    class Counted extends BufferSource {
      override close(): Promise<void> {
        closed++;
        return super.close();
      }
    }
    const input = await Reopenable.of(new Counted(pattern(100)), async (source) => source);
    for (let i = 0; i < 3; i++) await input.open().close();
    expect(closed).toBe(0);
    await input.close();
    expect(closed).toBe(1);
  });

  test('a file opened by its caller is taken over', async () => {
    const path = scratchFile('input', pattern(1000));
    const file = await openFile(path);
    const input = await Reopenable.of(file, async (source) => source);
    const opened = input.open();
    expect((await readAll(opened)).equals(pattern(1000))).toBe(true);
    await opened.close();
    await input.close();
    await expect(file.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'E_IO' });
  });

  test('what fails to become seekable is the error', async () => {
    const failing = Reopenable.of(pipe(pattern(10)), () => Promise.reject(new Error('no room')));
    await expect(failing).rejects.toThrow('no room');
  });
});
