import fc from 'fast-check';
import {
  array,
  type Encoded,
  type EncodedState,
  indexed,
  inline,
  list,
  pointers,
  state,
  struct,
  tree,
  u32,
  u64,
  value,
} from './writer.js';

/** A struct whose size is always the same. */
export const point = (n: number): EncodedState =>
  state('point', 2, [value('x', 'uint32', u32(n), n), value('y', 'uint8', Buffer.of(n), n)]);

const scalars = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }).map((n) => ['uint32', u32(n), n] as const),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((n) => ['int64', u64(n), n] as const),
  fc.boolean().map((b) => ['bool', Buffer.of(Number(b)), b] as const),
  fc
    .uint8Array({ maxLength: 20 })
    .map((b) => ['buffer', Buffer.from(b), Buffer.from(b).toString('hex')] as const),
);
type Make = (name: string) => Encoded;
const numbers = fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 2, maxLength: 9 });
const flat: fc.Arbitrary<Make>[] = [
  scalars.map(
    ([type, bytes, expected]) =>
      (name) =>
        value(name, type, bytes, expected),
  ),
  numbers.map((ns) => (name) => array(name, 'uint32', ns.map(u32), ns)),
  fc
    .tuple(fc.array(fc.option(fc.nat(200)), { minLength: 2, maxLength: 9 }), fc.boolean())
    .map(([ns, compressible]) => (name) => {
      const items = ns.map((n) => (n === null ? n : point(n)));
      return pointers(name, items, '>=9.2.4', compressible);
    }),
];

function fieldOf(depth: number): fc.Arbitrary<Make> {
  if (depth === 0) return fc.oneof(...flat);
  const inner = deviceOf(depth - 1);
  const some = fc.array(inner, { maxLength: 3 });
  return fc.oneof(
    ...flat,
    inner.map(
      (s): Make =>
        (name) =>
          struct(name, s),
    ),
    fc.tuple(fc.array(inner, { minLength: 2, maxLength: 3 }), fc.boolean()).map(
      ([items, last]): Make =>
        (name) =>
          indexed(name, items, last),
    ),
    some.map(
      (items): Make =>
        (name) =>
          list(name, 'qtailq', items),
    ),
    fc.array(fc.tuple(inner, inner), { maxLength: 2 }).map(
      (items): Make =>
        (name) =>
          tree(name, items),
    ),
    inner.map(
      (s): Make =>
        (name) =>
          inline(name, 'vstruct', [s], s.bytes, s.expected),
    ),
  );
}

function deviceOf(depth: number): fc.Arbitrary<EncodedState> {
  return fc
    .tuple(
      fc.array(fieldOf(depth), { maxLength: 4 }),
      depth === 0 ? fc.constant([]) : fc.array(deviceOf(depth - 1), { maxLength: 2 }),
      fc.nat(9),
    )
    .map(([fields, subs, version]) => {
      const made = fields.map((make, i) => make(`f${i}`));
      return state(
        'd',
        version,
        made,
        subs.map((s, i) => rename(s, `d/${i}`)),
      );
    });
}
/** A device with everything that descriptions can say, two levels deep. */
export const anyDevice = deviceOf(2);

/** A subsection has a name of its own; the JSON and what is expected begin with it. */
function rename(s: EncodedState, vmsd: string): EncodedState {
  const json = s.json.replace('"vmsd_name": "d"', `"vmsd_name": "${vmsd}"`);
  return { ...s, vmsd, json, expected: { ...(s.expected as object), vmsd } };
}
