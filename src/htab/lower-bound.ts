/**
 * Position of the first of `count` ascending numbers that is not below `value`; `count` when all
 * are. One that belongs behind the last is found at once, since tables are filled in ascending order.
 */
export function lowerBound(numbers: ArrayLike<number>, count: number, value: number): number {
  if (count > 0 && (numbers[count - 1] ?? 0) < value) return count;
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((numbers[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
