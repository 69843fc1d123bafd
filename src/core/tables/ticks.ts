/**
 * The clock of a datapath thread. A tick is 10 ms. Ticks are 32-bit and compared by their difference, which is right for
 * 248 days.
 */
export const TICK_MS = 10;

/** Times longer ago than this, 124 days, are not told apart. */
export const MAX_AGO_TICKS = 0x3fff_ffff;

/** A time that seems to lie ahead is so long ago that the ticks have overflowed. */
export function isLongAgo(tick: number, nowTick: number): boolean {
  const ago = (nowTick - tick) | 0;
  return ago < 0 || ago > MAX_AGO_TICKS;
}
