/** The exponent of a power law through the points: the slope of log(value) over log(size). */
export function exponent(points: readonly (readonly [size: number, value: number])[]): number {
  const logs = points.map(([size, value]) => [Math.log(size), Math.log(value)] as const);
  const mean = (pick: 0 | 1): number => logs.reduce((sum, p) => sum + p[pick], 0) / logs.length;
  const [x, y] = [mean(0), mean(1)];
  const over = logs.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0);
  const under = logs.reduce((sum, [a]) => sum + (a - x) ** 2, 0);
  return over / under;
}

/**
 * The exponent of what is above the smallest size, between the two largest: what costs the same
 * whatever the size, such as what is compiled, hides no growth.
 * @param least values that are not told from noise
 */
export function exponentAbove(
  points: readonly (readonly [size: number, value: number])[],
  least: number,
): number {
  const [[size0, value0] = [0, 0]] = points;
  const above = points.slice(-2).map(([size, value]): [number, number] => {
    return [size - size0, Math.max(least, value - value0)];
  });
  return exponent(above);
}
