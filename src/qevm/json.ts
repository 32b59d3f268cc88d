import jsonc from 'jsonc-parser';

/**
 * JSON that keeps every key of an object, in order. QEMU's writer (qobject/json-writer.c) does not
 * check for duplicates and the vmdescription has them, which `JSON.parse` would lose.
 */
export type OrderedJson = string | number | boolean | null | OrderedJson[] | OrderedObject;

/** An object as the list of its members; names are data and may repeat. */
export class OrderedObject {
  readonly members: [name: string, value: OrderedJson][] = [];

  /** The value of a key; of the last one, as `JSON.parse` has it, when it repeats. */
  get(name: string): OrderedJson | undefined {
    return this.members.findLast((member) => member[0] === name)?.[1];
  }
}

export interface OrderedJsonLimits {
  /** Deepest nesting of objects and arrays. Default 64. */
  readonly depth?: number;
  /** Values in all. Default 4 million. */
  readonly values?: number;
}

/** Thrown out of the visitor's callbacks; carries what is wrong and where in the text. */
export class OrderedJsonError extends Error {
  constructor(
    message: string,
    readonly at: number,
  ) {
    super(`${message} at character ${at}`);
  }
}

/**
 * Parses strict JSON. The limits are checked before the parser goes deeper, so that no text can
 * overflow the stack or fill the memory.
 * @throws OrderedJsonError
 */
export function parseOrderedJson(text: string, limits: OrderedJsonLimits = {}): OrderedJson {
  const maxDepth = limits.depth ?? 64;
  let left = limits.values ?? 4_000_000;
  const root: OrderedJson[] = [];
  const parents: (OrderedJson[] | OrderedObject)[] = [root];
  let key = '';

  const add = (value: OrderedJson, at: number): void => {
    if (--left < 0) throw new OrderedJsonError('too many values', at);
    const parent = parents[parents.length - 1];
    if (parent instanceof OrderedObject) parent.members.push([key, value]);
    else parent?.push(value);
  };
  const begin = (value: OrderedJson[] | OrderedObject, at: number): boolean => {
    if (parents.length > maxDepth) throw new OrderedJsonError('nested too deeply', at);
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
