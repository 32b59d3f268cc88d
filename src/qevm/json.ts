import jsonc from 'jsonc-parser';

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

/**
 * The scanner takes a microsecond for each of these, and builds strings of them. The JSON of QEMU
 * has no escapes, and a blank between tokens.
 */
const MAX_BLANKS = 4 * 1024 * 1024;
const MAX_ESCAPES = 1024 * 1024;

export interface OrderedJsonLimits {
  /** Deepest nesting of objects and arrays. */
  readonly depth: number;
  /** Values in all. */
  readonly values: number;
}

/** Thrown out of the visitor's callbacks; carries what is wrong and where in the text. */
export class OrderedJsonError extends Error {
  constructor(
    message: string,
    readonly at: number,
    /** Which limit the text exceeds, if that is what is wrong. */
    readonly exceeds?: keyof OrderedJsonLimits,
  ) {
    super(`${message} at character ${at}`);
  }
}

/**
 * Parses strict JSON. The limits are checked before the parser goes deeper, so that no text can
 * overflow the stack or fill the memory.
 * @throws OrderedJsonError
 */
export function parseOrderedJson(text: string, limits: OrderedJsonLimits): OrderedJson {
  const maxDepth = limits.depth;
  let left = limits.values;
  refuseSlowText(text);
  const root: OrderedJson[] = [];
  const parents: (OrderedJson[] | OrderedObject)[] = [root];
  let key = '';

  const add = (value: OrderedJson, at: number): void => {
    if (--left < 0) throw new OrderedJsonError('too many values', at, 'values');
    const parent = parents[parents.length - 1];
    if (parent instanceof OrderedObject) parent.add(key, value);
    else parent?.push(value);
  };
  const begin = (value: OrderedJson[] | OrderedObject, at: number): boolean => {
    if (parents.length > maxDepth) throw new OrderedJsonError('nested too deeply', at, 'depth');
    add(value, at);
    parents.push(value);
    return true;
  };

  jsonc.visit(
    text,
    {
      onObjectBegin: (at) => begin(new OrderedObject(), at),
      onArrayBegin: (at) => begin([], at),
      onObjectEnd: () => void parents.pop(),
      onArrayEnd: () => void parents.pop(),
      onObjectProperty: (name) => {
        key = name;
      },
      onLiteralValue: add,
      onError: (code, at) => {
        throw new OrderedJsonError(jsonc.printParseErrorCode(code), at);
      },
    },
    { disallowComments: true, allowTrailingComma: false, allowEmptyContent: false },
  );
  const [value] = root;
  if (value === undefined) throw new OrderedJsonError('ValueExpected', 0);
  return value;
}

function refuseSlowText(text: string): void {
  let blanks = 0;
  let escapes = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c <= 0x20) blanks++;
    else if (c === 0x5c) escapes++;
    if (blanks > MAX_BLANKS) throw new OrderedJsonError('too much white space', i);
    if (escapes > MAX_ESCAPES) throw new OrderedJsonError('too many escapes', i);
  }
}
