import fc from 'fast-check';
import { expect, test } from 'vitest';
import { array, type Encoded, type EncodedState, state, struct, value } from '../devices/writer.js';
import { checkOne, type DumpField, type DumpState, described, field } from './support.js';

/** A field as both sides have it, made from one model. */
interface Both {
  readonly stream: Encoded;
  readonly target: DumpField;
}

const WIDTHS = { bool: 1, uint8: 1, int16: 2, uint32: 4, int64: 8, 'uint32 equal': 4 } as const;
const type = fc.constantFrom(...(Object.keys(WIDTHS) as (keyof typeof WIDTHS)[]));

/** Values other than 0: what is 0 might be the length of an array. */
const bytes = (length: number): Buffer => Buffer.alloc(length, 1);

const scalar = (name: string) =>
  type.map(
    (t): Both => ({
      stream: value(name, t, bytes(WIDTHS[t])),
      target: field(name, WIDTHS[t]),
    }),
  );

const many = (name: string) =>
  fc.tuple(type, fc.integer({ min: 1, max: 5 })).map(([t, n]): Both => {
    const items = Array.from({ length: n }, () => bytes(WIDTHS[t]));
    const target = field(name, WIDTHS[t], { num: n });
    return { stream: array(name, t, items, items), target };
  });

const buffer = (name: string) =>
  fc.integer({ min: 9, max: 40 }).map(
    (n): Both => ({
      stream: value(name, 'buffer', bytes(n)),
      target: field(name, n),
    }),
  );

interface BothStates {
  readonly stream: EncodedState;
  readonly target: DumpState;
}

const states = (name: string, depth: number): fc.Arbitrary<BothStates> =>
  fc
    .tuple(
      ...Array.from({ length: 4 }, (_, i) => {
        const plain = [scalar(`f${i}`), many(`f${i}`), buffer(`f${i}`)];
        if (depth === 0) return fc.oneof(...plain);
        const inner = states(`${name}.${i}`, depth - 1).map((s) => ({
          stream: struct(`f${i}`, s.stream),
          target: field(`f${i}`, 100, { Description: s.target }),
        }));
        return fc.oneof(...plain, inner);
      }),
    )
    .map((fields) => ({
      stream: state(
        name,
        1,
        fields.map((f) => f.stream),
      ),
      target: described(
        name,
        fields.map((f) => f.target),
      ),
    }));

test('what a target would write itself, it reads', async () => {
  await fc.assert(
    fc.asyncProperty(states('dev', 2), async ({ stream, target }) => {
      expect(await checkOne(stream, target)).toMatchObject({ verdict: 'ok', reasons: [] });
    }),
  );
});

test('one field more, fewer, or wider, anywhere, is refused', async () => {
  const index = fc.integer({ min: 0, max: 3 });
  await fc.assert(
    fc.asyncProperty(states('dev', 1), index, index, async ({ stream, target }, i, change) => {
      const fields = [...(target.Fields ?? [])];
      const old = fields[i];
      if (old === undefined) throw new Error('no field');
      if (change === 0) fields.splice(i, 1);
      if (change === 1) fields.splice(i, 0, field('new', 4));
      if (change === 2) fields[i] = { ...old, num: (old.num ?? 1) + 1 };
      if (change === 3) fields.splice(i, 1, old, field('f9', 8));
      const section = await checkOne(stream, { ...target, Fields: fields });
      expect(section.verdict).toBe('refused');
    }),
  );
});

test('whatever the two sides are, there is an answer', async () => {
  await fc.assert(
    fc.asyncProperty(states('dev', 2), states('dev', 2), async (a, b) => {
      const { verdict, reasons } = await checkOne(a.stream, b.target);
      if (verdict === 'ok') expect(reasons).toEqual([]);
      else expect(reasons.length).toBeGreaterThan(0);
      if (reasons.some(({ refuses }) => refuses) && verdict !== 'refused') {
        // Only what makes up for each other takes a refusal back.
        expect(reasons.length).toBeGreaterThan(1);
      }
    }),
  );
});
