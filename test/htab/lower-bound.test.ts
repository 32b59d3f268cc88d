import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lowerBound } from '../../src/htab/lower-bound.js';

test('the first number that is not below the value, for any numbers', () => {
  const slots = fc.uniqueArray(fc.nat(300), { maxLength: 40 });
  fc.assert(
    fc.property(slots, fc.nat(302), fc.nat(5), (list, value, behind) => {
      const sorted = Uint16Array.from(list).sort();
      // What lies behind the count is not looked at.
      const numbers = new Uint16Array(sorted.length + behind).fill(7);
      numbers.set(sorted);
      const expected = sorted.filter((number) => number < value).length;
      expect(lowerBound(numbers, sorted.length, value)).toBe(expected);
      expect(lowerBound([...numbers], sorted.length, value)).toBe(expected);
    }),
  );
});
