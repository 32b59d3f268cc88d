import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NATIVE_MAX_BYTES, type NativeFile, type NativePipe } from '../../src/addon/load.js';
import { addon } from '../bytes/support.js';
import { child, descriptors, htab, LINUX, opened } from './support.js';

const { EBADF } = constants.errno;

const nothing = (): NativeFile => {
  const fd = openSync('/dev/null', 'r+');
  try {
    return opened(htab().duplicate(fd));
  } finally {
    closeSync(fd);
  }
};

type Call = (...args: unknown[]) => unknown;

/** Both ends are closed at once: the one for reading is a number, which nobody else closes. */
const pipe: Call = (...args) => {
  const made = (child().pipe as unknown as Call)(...args) as NativePipe;
  if (made.readFd !== undefined) closeSync(made.readFd);
  made.writer?.close();
  return made;
};

/** Every function, by name. Those of files are called on `file`. */
function functions(file: NativeFile): Record<string, Call> {
  const own = { ...htab(), ...child(), pipe } as unknown as Record<string, Call>;
  const methods = file as unknown as Record<string, Call>;
  const bound = ['read', 'write', 'writeBlocks'].map((name) => [
    name,
    (...args: unknown[]) => methods[name]?.(...args),
  ]);
  const { copyRange, passBlocks, walkPages } = addon() as unknown as Record<string, Call>;
  const others = { copyRange, passBlocks, walkPages } as Record<string, Call>;
  return { ...own, ...Object.fromEntries(bound), ...others };
}

/** Fails when anything of it is run. */
const trap = () => {
  throw new Error('code of an argument was run');
};
const trapped = (target: object) =>
  new Proxy(
    target,
    Object.fromEntries(
      Object.getOwnPropertyNames(Reflect).map((name) => [name, trap]),
    ) as ProxyHandler<object>,
  );
const convertible = { valueOf: trap, toString: trap, [Symbol.toPrimitive]: trap };

function detached(): Uint8Array {
  const bytes = new Uint8Array(16);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

class Subclass extends Uint8Array {
  override get length(): number {
    return trap();
  }
}

interface Resizable {
  resize(length: number): void;
}

function resizable(): ArrayBuffer {
  const { ArrayBuffer: Of } = globalThis as unknown as {
    ArrayBuffer: new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
  };
  return new Of(16, { maxByteLength: 16 });
}

/** What is easily confused with what is taken, or breaks what looks at it. */
const oddities = (file: NativeFile): readonly unknown[] => [
  undefined,
  null,
  true,
  '',
  '3',
  '\ud800',
  Symbol('s'),
  -0,
  -1,
  0.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.MIN_VALUE,
  2 ** 31,
  2 ** 32 + 1,
  2 ** 53,
  2 ** 64,
  -1n,
  2n ** 64n,
  2n ** 200n,
  Object(1),
  Object(1n),
  new Date(),
  trap,
  convertible,
  trapped([]),
  trapped(trap),
  trapped(new Uint8Array(8)),
  trapped(file),
  Object.create(file),
  Object.create(Uint8Array.prototype),
  Reflect.construct(file.constructor, []),
  new Uint16Array(8),
  new Uint8ClampedArray(8),
  new DataView(new ArrayBuffer(8)),
  new ArrayBuffer(8),
  new SharedArrayBuffer(8),
  new Array(8),
];

/** By position: what a call takes there, without doing anything. */
const good: Record<string, readonly unknown[]> = {
  open: [2 ** 31 - 1, 0n, 2n ** 64n - 1n],
  duplicate: [2 ** 31 - 1],
  take: [2 ** 31 - 1, 0],
  connect: ['/nobody'],
  read: [0],
  write: [new Uint8Array(1)],
  writeBlocks: [new Uint8Array(1)],
  reopen: [2 ** 31 - 1, 0],
  pipe: [4096],
  copyRange: [2 ** 31 - 1, 0, 2 ** 31 - 1, 0, 2 ** 53 - 1],
  passBlocks: [2 ** 31 - 1, 0, 2 ** 31 - 1, 0, 2 ** 53 - 1, 2 ** 53 - 1, true, false],
  walkPages: [2 ** 31 - 1, 0, 2 ** 53 - 1, 2 ** 53 - 1],
};

describe.runIf(LINUX)('what is no argument', () => {
  // Oddities that are taken: they are what they look like.
  const taken = (name: string, at: number): ((value: unknown) => boolean) => {
    if (name === 'connect') return (value) => typeof value === 'string';
    if (name === 'open' && at > 0) return () => false;
    if (name === 'write' || name === 'writeBlocks') return () => false;
    if (name === 'passBlocks' && at > 5) return (value) => typeof value === 'boolean';
    const long =
      name === 'read' ||
      ((name === 'copyRange' || name === 'passBlocks') && [1, 3, 4, 5].includes(at)) ||
      (name === 'reopen' && at === 1) ||
      (name === 'walkPages' && at > 0);
    const most = long ? 2 ** 53 - 1 : 2 ** 31 - 1;
    return (value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= most;
  };

  test.each(Object.keys(good))('is refused by %s, in every place', async (name) => {
    const file = nothing();
    const call = functions(file)[name] as Call;
    const args = good[name] ?? [];
    await call(...args);
    for (let at = 0; at < args.length; at++) {
      expect(() => call(...args.slice(0, at))).toThrow(TypeError);
      for (const odd of oddities(file)) {
        if (taken(name, at)(odd)) continue;
        const given = [...args.slice(0, at), odd, ...args.slice(at + 1)];
        const { name: thrown } = (() => {
          try {
            call(...given);
          } catch (error) {
            return error as Error;
          }
          throw new Error(`taken at ${at}: ${String(Object.prototype.toString.call(odd))}`);
        })();
        expect(thrown).toBe('TypeError');
      }
    }
  });

  test('is refused by receive, which takes files of the addon only', () => {
    const file = nothing();
    const receive = htab().receive as unknown as Call;
    for (const odd of oddities(file)) expect(() => receive(odd)).toThrow(TypeError);
    expect(() => receive()).toThrow(TypeError);
  });

  test('is refused as the object of a method', () => {
    const file = nothing();
    const methods = Object.getPrototypeOf(file);
    const { get } = Object.getOwnPropertyDescriptor(methods, 'fd') ?? {};
    for (const odd of [...oddities(file), methods, methods.constructor]) {
      for (const call of [methods.read, methods.write, methods.writeBlocks, methods.close, get]) {
        expect(() => Reflect.apply(call, odd, [new Uint8Array(1)])).toThrow(TypeError);
      }
    }
    // Without `new` too.
    expect(() => methods.constructor()).not.toThrow();
    expect(() => methods.read.call(methods.constructor(), 1)).toThrow(TypeError);
  });
});

describe.runIf(LINUX)('bytes of every kind', () => {
  test('are written as they are', async () => {
    const file = nothing();
    // Of 16 bytes that become 4: a view without a length of its own has them, one behind has none.
    const tracking = new Uint8Array(resizable());
    const beyond = new Uint8Array(resizable(), 8, 8);
    for (const { buffer } of [tracking, beyond]) (buffer as unknown as Resizable).resize(4);
    for (const [bytes, length] of [
      [new Uint8Array(0), 0],
      [Buffer.from('abc'), 3],
      [new Uint8Array(new SharedArrayBuffer(5)), 5],
      [detached(), 0],
      [tracking, 4],
      [beyond, 0],
      [new Subclass(3), 3],
    ] as const) {
      expect(await file.write(bytes)).toEqual({ count: length, errno: 0 });
    }
  });
});

test.runIf(LINUX)('anything at all is refused or answered', async () => {
  const file = nothing();
  // Without those that would write to whatever has a number here, and what gives no errno.
  const { copyRange: _, passBlocks: __, walkPages: ___, ...calls } = functions(file);
  const before = descriptors().size;
  // Wrapped: nothing of the generator looks at them.
  const constant = (value: unknown) => () => value;
  const value = fc.oneof(
    fc
      .anything({ withBigInt: true, withTypedArray: true, withDate: true, withSparseArray: true })
      .map(constant),
    fc.constantFrom(...[...oddities(file), file].map(constant)),
    fc.nat(NATIVE_MAX_BYTES + 10).map(constant),
    fc.bigInt({ min: 0n, max: 2n ** 65n }).map(constant),
    fc.uint8Array({ maxLength: 200 }).map(constant),
  );
  const answers = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...Object.keys(calls)).chain((name) => {
        const places = (good[name] ?? [file]).map((taken) =>
          fc.oneof(fc.constant(constant(taken)), value),
        );
        return fc.tuple(fc.constant(name), fc.oneof(fc.tuple(...places), fc.array(value)));
      }),
      async ([name, values]) => {
        let result: { readonly errno?: unknown; readonly file?: NativeFile };
        try {
          result = (await calls[name]?.(...values.map((value) => value()))) as typeof result;
        } catch (error) {
          expect(error instanceof TypeError || error instanceof RangeError).toBe(true);
          return;
        }
        answers.add(name);
        expect(result.errno).toEqual(expect.any(Number));
        result.file?.close();
      },
    ),
    { numRuns: 5000 },
  );
  expect(answers.size).toBe(Object.keys(calls).length);
  expect(descriptors().size).toBe(before);
  file.close();
  expect(await file.read(1)).toMatchObject({ errno: EBADF });
});
