import type { Steps } from '../bytes/pace.js';
import { JsonScanner, type JsonToken, OrderedJsonError } from './json-scanner.js';

/**
 * JSON that keeps every key of an object, in order. QEMU's writer (qobject/json-writer.c) does not
 * check for duplicates and the vmdescription has them, which `JSON.parse` would lose.
 */
export type OrderedJson = string | number | boolean | null | OrderedJson[] | OrderedObject;

/** An object as the list of its members; names are data and may repeat. */
export class OrderedObject {
  readonly names: string[] = [];
  /** One for each name. */
  readonly values: OrderedJson[] = [];

  add(name: string, value: OrderedJson): void {
    this.names.push(name);
    this.values.push(value);
  }

  /** The value of a key; of the last one, as `JSON.parse` has it, when it repeats. */
  get(name: string): OrderedJson | undefined {
    return this.values[this.names.lastIndexOf(name)];
  }
}

/** Bytes of text between two pauses: some milliseconds. */
const STEP = 16 * 1024;

export interface OrderedJsonLimits {
  /** Deepest nesting of objects and arrays. */
  readonly depth: number;
  /** Values in all. */
  readonly values: number;
}

/**
 * Parses strict JSON, a piece at a time. What it is in has no place on the stack, and the limits are
 * checked before it goes deeper: no text can overflow the stack or fill the memory.
 * @throws OrderedJsonError
 */
export function* parseOrderedJson(text: Uint8Array, limits: OrderedJsonLimits): Steps<OrderedJson> {
  const scanner = new JsonScanner(text);
  const builder = new Builder(scanner, limits);
  for (let pause = STEP; ; ) {
    const token = scanner.next();
    if (token === 'end') return builder.result();
    if (token !== 'blank') builder.take(token);
    if (scanner.end < pause) continue;
    yield;
    pause = scanner.end + STEP;
  }
}

/** What may stand next. A container may end at its `first` member, but not behind a comma. */
type Expected = 'first' | 'member' | 'colon' | 'value' | 'comma';

class Builder {
  readonly #scanner: JsonScanner;
  readonly #depth: number;
  /** Values that may still come. */
  #left: number;
  #root: OrderedJson | undefined;
  readonly #open: (OrderedJson[] | OrderedObject)[] = [];
  /** The innermost of them. */
  #parent: OrderedJson[] | OrderedObject | undefined;
  #key = '';
  #expected: Expected = 'value';

  constructor(scanner: JsonScanner, { depth, values }: OrderedJsonLimits) {
    this.#scanner = scanner;
    this.#depth = depth;
    this.#left = values;
  }

  /** @throws OrderedJsonError when the text ends too early */
  result(): OrderedJson {
    if (this.#root !== undefined && this.#parent === undefined) return this.#root;
    throw this.#unexpected('end');
  }

  /** @throws OrderedJsonError when the token stands at the wrong place */
  take(token: JsonToken): void {
    const expected = this.#expected;
    const parent = this.#parent;
    const inObject = parent instanceof OrderedObject;
    const closes = parent !== undefined && (expected === 'first' || expected === 'comma');
    if (closes && token === (inObject ? '}' : ']')) {
      this.#open.pop();
      this.#parent = this.#open.at(-1);
      this.#expected = 'comma';
    } else if (expected === 'colon' && token === ':') {
      this.#expected = 'value';
    } else if (expected === 'comma' && token === ',' && parent !== undefined) {
      this.#expected = 'member';
    } else if (inObject && (expected === 'first' || expected === 'member') && token === 'string') {
      this.#key = String(this.#scanner.value);
      this.#expected = 'colon';
    } else if (
      expected === 'value' ||
      (!inObject && (expected === 'first' || expected === 'member'))
    ) {
      this.#value(token);
    } else {
      throw this.#unexpected(token);
    }
  }

  #value(token: JsonToken): void {
    switch (token) {
      case 'string':
      case 'value':
        this.#add(this.#scanner.value);
        this.#expected = 'comma';
        return;
      case '{':
        this.#begin(new OrderedObject());
        return;
      case '[':
        this.#begin([]);
        return;
      default:
        throw this.#unexpected(token);
    }
  }

  #begin(container: OrderedJson[] | OrderedObject): void {
    if (this.#open.length >= this.#depth) {
      throw new OrderedJsonError('nested too deeply', this.#scanner.at, 'depth');
    }
    this.#add(container);
    this.#open.push(container);
    this.#parent = container;
    this.#expected = 'first';
  }

  #add(value: OrderedJson): void {
    if (--this.#left < 0) {
      throw new OrderedJsonError('too many values', this.#scanner.at, 'values');
    }
    if (this.#parent === undefined) this.#root = value;
    else if (this.#parent instanceof OrderedObject) this.#parent.add(this.#key, value);
    else this.#parent.push(value);
  }

  /** Says what should have stood there. */
  #unexpected(token: JsonToken): OrderedJsonError {
    return new OrderedJsonError(this.#missing(token), this.#scanner.at);
  }

  #missing(token: JsonToken): string {
    const inObject = this.#parent instanceof OrderedObject;
    const expected = this.#expected;
    if (expected === 'colon') return 'ColonExpected';
    if (expected === 'comma' && this.#parent === undefined) return 'EndOfFileExpected';
    if (token === 'end' && (expected === 'first' || expected === 'comma')) {
      return inObject ? 'CloseBraceExpected' : 'CloseBracketExpected';
    }
    if (expected === 'comma') return 'CommaExpected';
    if (inObject && expected !== 'value' && !(expected === 'first' && token === ','))
      return 'PropertyNameExpected';
    return 'ValueExpected';
  }
}
