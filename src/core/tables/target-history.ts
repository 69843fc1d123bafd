/**
 * The history of targets: where each came from, since when it is as it is, and whether a frame has used it. No frame needs
 * it, so it is apart from the rows of the target table.
 */
import { isLongAgo, MAX_AGO_TICKS } from './ticks.js';

/** A plugin has answered, or pushed the target; an operator has set it; or it is from before a restart. */
export const ORIGINS = ['plugin', 'pushed', 'set', 'restored'] as const;
export type Origin = (typeof ORIGINS)[number];
/** Added to the number of an origin: no frame has used the entry. */
const UNUSED = 4;
const ORIGIN_MASK = 3;

export class TargetHistory {
  /** For each row: the tick since which it is as it is. */
  #since: Int32Array;
  #origins: Uint8Array;

  constructor(rows: number) {
    this.#since = new Int32Array(rows);
    this.#origins = new Uint8Array(rows);
  }

  /** Makes room for so many rows. */
  grow(rows: number): void {
    this.#since = grown(this.#since, new Int32Array(rows));
    this.#origins = grown(this.#origins, new Uint8Array(rows));
  }

  inserted(row: number, nowTick: number): void {
    this.#since[row] = nowTick;
    this.#origins[row] = 0;
  }

  settled(row: number, nowTick: number, origin: Origin): void {
    this.#since[row] = nowTick;
    this.#origins[row] = (this.#origins[row] & UNUSED) | ORIGINS.indexOf(origin);
  }

  reopened(row: number, nowTick: number): void {
    this.#since[row] = nowTick;
  }

  used(row: number): void {
    this.#origins[row] &= ~UNUSED;
  }

  markUnused(row: number): void {
    this.#origins[row] |= UNUSED;
  }

  /** Returns whether a frame has used the entry since it was inserted. */
  wasUsed(row: number): boolean {
    return (this.#origins[row] & UNUSED) === 0;
  }

  /** Returns where a VALID or DROP entry came from. */
  origin(row: number): Origin {
    return ORIGINS[this.#origins[row] & ORIGIN_MASK];
  }

  /** Returns the ticks since a VALID or DROP entry was settled, or a PENDING one inserted or reopened. */
  ageTicks(row: number, nowTick: number): number {
    return Math.max(0, (nowTick - this.#since[row]) | 0);
  }

  /** Gives a row the history of a row of `other`. */
  imitate(row: number, other: TargetHistory, otherRow: number): void {
    this.#since[row] = other.#since[otherRow];
    this.#origins[row] = other.#origins[otherRow];
  }

  /** Keeps a time of long ago from seeming recent (TargetTable.age). */
  age(row: number, nowTick: number, isAllOver: boolean): void {
    if (isAllOver || isLongAgo(this.#since[row], nowTick)) this.#since[row] = (nowTick - MAX_AGO_TICKS) | 0;
  }
}

/** Copies `from` into `to`, which is longer. */
export function grown<T extends Int32Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
