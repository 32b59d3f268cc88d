import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/errors.js';
import { SoftwareHtab, type SoftwareHtabOptions } from '../../src/fd/software/vm.js';
import { both, MEMORY, put, R, read, V } from './software-support.js';

const USAGE = expect.objectContaining({ code: 'E_USAGE' });

/** What JavaScript lets a caller pass for a T. */
const any = <T>(value: unknown): T => value as T;

describe('what is no slot is refused, and nothing is changed', () => {
  test.each([1.5, -1, Number.NaN, Number.POSITIVE_INFINITY, any<number>('1'), any<number>(1n)])(
    '%s',
    async (index) => {
      const vm = new SoftwareHtab({ order: 18, memory: MEMORY });
      const { w, r } = both(vm);
      await put(w, 1, V(1n), R(1n));
      for (const call of [
        () => vm.hEnter(index, V(2n), R(2n)),
        () => vm.hRemove(index),
        () => vm.touch(index),
        () => vm.touch(index, { store: true }),
      ]) {
        expect(call).toThrow(UsageError);
        expect(call).toThrow(USAGE);
      }
      const entry = '00000000000000c1:0000000000001192';
      expect(await read(r, 4096)).toBe(`32 [0 v0 i1] [1 v1 i16382] ${entry}`);
      expect(await read(r, 4096)).toBe('0');
    },
  );

  test('beyond the table is the answer of the kernel', () => {
    const vm = new SoftwareHtab({ order: 18 });
    for (const index of [16384, 2 ** 53, 2 ** 64]) {
      expect(vm.hEnter(index, V(1n), R(1n))).toBe('H_PARAMETER');
      expect(vm.hRemove(index)).toBe('H_PARAMETER');
      expect(vm.touch(index)).toBe(false);
    }
    expect(new SoftwareHtab().touch(0)).toBe(false);
  });
});

test.each([any<bigint>(5), any<bigint>(undefined), -1n, 1n << 64n])('no u64: %s', async (value) => {
  const vm = new SoftwareHtab({ order: 18, host: 'power9-radix', memory: MEMORY });
  expect(() => vm.hEnter(0, value, R(1n))).toThrow(USAGE);
  expect(() => vm.hEnter(0, V(1n), value)).toThrow(USAGE);
  expect(() => vm.configureMmu(value, 0n)).toThrow(USAGE);
  expect(() => vm.configureMmu(0n, value)).toThrow(USAGE);
  expect(await read(vm.descriptor(), 4096)).toBe('8 [0 v0 i16384]');
});

describe('opening', () => {
  const vm = new SoftwareHtab({ order: 18 });

  test.each([
    ['startIndex NaN', { startIndex: any<bigint>(Number.NaN) }],
    ['startIndex 0', { startIndex: any<bigint>(0) }],
    ['startIndex null', { startIndex: any<bigint>(null) }],
    ['flags 2', { flags: any<bigint>(2) }],
    ['flags "2"', { flags: any<bigint>('2') }],
    ['flags -1n', { flags: -1n }],
    ['byteOrder', { byteOrder: any<'big'>('BE') }],
  ])('%s', (_name, options) => {
    expect(() => vm.descriptor(options)).toThrow(USAGE);
    expect(() => vm.open(options)).toThrow(USAGE);
  });

  test('one that is refused is no reader', async () => {
    expect(() => vm.descriptor({ byteOrder: any<'big'>('BE') })).toThrow(USAGE);
    // Without a reader there are no marks.
    expect(vm.hEnter(3, V(1n), R(1n))).toBe('H_SUCCESS');
    const late = vm.descriptor({ startIndex: 16384n });
    expect([await read(late, 4096), await read(late, 4096)]).toEqual(['0', '0']);
  });
});

describe('options of a table', () => {
  test.each<[string, SoftwareHtabOptions]>([
    ['host', { host: any('power10') }],
    ['byteOrder', { byteOrder: any('middle') }],
    ['blocksPerWrite', { blocksPerWrite: any('all') }],
    ['maxOrder NaN', { maxOrder: Number.NaN }],
    ['maxOrder 30.5', { maxOrder: 30.5 }],
    ['maxOrder "30"', { maxOrder: any('30') }],
    ['base', { memory: [{ base: any(0), size: 1n << 20n }] }],
    ['size', { memory: [{ base: 0n, size: any(1 << 20) }] }],
    ['hostPage', { memory: [{ base: 0n, size: 1n << 20n, hostPage: any(0) }] }],
  ])('%s', (_name, options) => {
    expect(() => new SoftwareHtab({ order: 18, ...options })).toThrow(USAGE);
  });

  test('the message names what there is', () => {
    expect(() => new SoftwareHtab({ host: any('POWER8') })).toThrow(
      'there is no such host; expected power8, power9-radix, power9-hash, got POWER8',
    );
    expect(() => new SoftwareHtab().touch(1.5)).toThrow(
      'the index of a slot is no whole number; expected a number from 0 on, got 1.5 (number)',
    );
  });
});
