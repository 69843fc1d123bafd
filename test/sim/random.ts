// Numbers that look drawn and are the same in every run with the same seed.

/** Returns a generator of numbers from 0 to 1, exclusive (mulberry32: a counter and a mix of its bits). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from 0 to `below`, exclusive. */
export const wholeBelow = (random: () => number, below: number): number => Math.floor(random() * below);

/** A time around `ms` with the long tail of a network: the half of all are below `ms`, one in a hundred is above three times. */
export function longTailed(random: () => number, ms: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return ms * Math.exp(0.5 * normal);
}
