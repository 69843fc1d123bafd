// Order statistics over small samples.

/** The value below which a part of the sample lies; NaN for an empty one. */
export function quantile(values: readonly number[], part: number): number {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((x, y) => x - y);
  const position = part * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.ceil(position);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined;
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

export interface Interval {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
}

/** Student's t for a two-sided 95 %, from 1 degree of freedom on; beyond them the normal distribution's. */
const T_95 = [12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14, 2.13];
const T_95_MANY = [2.12, 1.96] as const;
const MANY = 60;

/** The geometric mean of ratios, and its 95 % confidence interval. One ratio alone has none: 0 to infinity. */
export function meanRatio(ratios: readonly number[]): Interval {
  const logs = ratios.map(Math.log);
  const count = logs.length;
  const mean = logs.reduce((sum, each) => sum + each, 0) / count;
  const variance = logs.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (count - 1);
  const t = T_95[count - 2] ?? (count < MANY ? T_95_MANY[0] : T_95_MANY[1]);
  const half = count < 2 ? Infinity : t * Math.sqrt(variance / count);
  return { ratio: Math.exp(mean), low: Math.exp(mean - half), high: Math.exp(mean + half) };
}
