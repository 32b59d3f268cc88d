import type { DeviceNode } from '../devices/node.js';
import type { TargetField } from './dump.js';

/** A field of the target at the version that it reads, with its name as a stream would have it. */
export interface Expected {
  readonly field: TargetField;
  /** Of fields that share a name: `name[i]` (migration/vmstate.c vmsd_desc_field_start). */
  readonly label: string;
  readonly shared: boolean;
}

/** Fields of both sides in order: a pair, or what stands on one side only. */
export interface Step {
  readonly stream: readonly DeviceNode[];
  readonly target: readonly Expected[];
  /** Whether it is one field of either side, of the same name. */
  readonly pair: boolean;
}

/** Cells of a table; a device has a hundred fields. */
const MAX_CELLS = 2_000_000;

/** How much comparing one report may cost, in pairs of fields; real snapshots take a thousandth. */
export class Effort {
  #left = 20_000_000;

  /** False when it is used up. */
  spend(pairs: number): boolean {
    this.#left -= pairs;
    return this.#left >= 0;
  }
}

/** Labels fields as the target would in its own description. Those it does not read are left out. */
export function expectedFields(fields: readonly TargetField[], version: number): Expected[] {
  const total = new Map<string, number>();
  for (const { name } of fields) total.set(name, (total.get(name) ?? 0) + 1);
  const met = new Map<string, number>();
  const expected: Expected[] = [];
  for (const field of fields) {
    const { name } = field;
    const shared = (total.get(name) ?? 0) > 1;
    const nth = met.get(name) ?? 0;
    met.set(name, nth + 1);
    if (!field.optional && field.version > version) continue;
    expected.push({ field, label: shared ? `${name}[${nth}]` : name, shared });
  }
  return expected;
}

/**
 * Puts the fields of both sides next to each other, as many of the same name as possible without
 * changing the order. Undefined when that is too much work.
 */
export function align(
  stream: readonly DeviceNode[],
  target: readonly Expected[],
  effort: Effort,
): Step[] | undefined {
  if (!effort.spend(stream.length + target.length)) return undefined;
  let first = 0;
  while (first < stream.length && same(stream[first], target[first])) first++;
  let [n, m] = [stream.length, target.length];
  while (n > first && m > first && same(stream[n - 1], target[m - 1])) {
    n--;
    m--;
  }
  const pairs: [number, number][] = [];
  for (let i = 0; i < first; i++) pairs.push([i, i]);
  const middle = longest(stream.slice(first, n), target.slice(first, m), effort);
  if (middle === undefined) return undefined;
  for (const [i, j] of middle) pairs.push([first + i, first + j]);
  for (let i = n, j = m; i < stream.length; i++, j++) pairs.push([i, j]);
  return steps(stream, target, pairs);
}

function same(node: DeviceNode | undefined, expected: Expected | undefined): boolean {
  if (node === undefined || expected === undefined) return false;
  const { name } = expected.field;
  if (node.name === expected.label || node.name === name) return true;
  // The source had several of that name, the target has one.
  return !expected.shared && node.name.startsWith(name) && isNumber(node.name, name.length);
}

/** Whether `[i]` stands from there on. */
function isNumber(text: string, at: number): boolean {
  return text[at] === '[' && /^\[\d+\]$/.test(text.slice(at));
}

/** The longest common subsequence, as pairs of positions. */
function longest(
  stream: readonly DeviceNode[],
  target: readonly Expected[],
  effort: Effort,
): [number, number][] | undefined {
  const [n, m] = [stream.length, target.length];
  if (n === 0 || m === 0) return [];
  if ((n + 1) * (m + 1) > MAX_CELLS || !effort.spend(n * m)) return undefined;
  const width = m + 1;
  const table = new Uint32Array((n + 1) * width);
  const at = (i: number, j: number): number => table[i * width + j] ?? 0;
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      table[i * width + j] = same(stream[i], target[j])
        ? at(i + 1, j + 1) + 1
        : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const pairs: [number, number][] = [];
  for (let i = 0, j = 0; i < n && j < m; ) {
    if (same(stream[i], target[j])) pairs.push([i++, j++]);
    else if (at(i + 1, j) >= at(i, j + 1)) i++;
    else j++;
  }
  return pairs;
}

function steps(
  stream: readonly DeviceNode[],
  target: readonly Expected[],
  pairs: readonly [number, number][],
): Step[] {
  const result: Step[] = [];
  let [i, j] = [0, 0];
  for (const [nextI, nextJ] of [...pairs, [stream.length, target.length] as const]) {
    if (nextI > i || nextJ > j) {
      result.push({ stream: stream.slice(i, nextI), target: target.slice(j, nextJ), pair: false });
    }
    const [node, expected] = [stream[nextI], target[nextJ]];
    if (node !== undefined && expected !== undefined) {
      result.push({ stream: [node], target: [expected], pair: true });
    }
    [i, j] = [nextI + 1, nextJ + 1];
  }
  return result;
}
