/**
 * Targets that a plugin pushes, in the form in which they cross threads: numbers in typed arrays, and each distinct
 * destination once. A million rows as objects would hold a datapath thread for seconds while it unpacks them.
 */
import { type Endpoint, formatEndpoint } from '../../wire/ip.js';
import type { MacAddress } from '../../wire/mac.js';
import { NONE } from './mac-index.js';
import type { AnswerAge } from './target-ages.js';

/** A target that is set. */
export interface TargetRow {
  readonly mac: MacAddress;
  /** More than one = flood. None: the MAC is forgotten. */
  readonly to: readonly Endpoint[];
  /** Infinity = fresh for ever. */
  readonly ttlMs: number;
  /** As `Age.staleMs` of the plugin contract. */
  readonly staleMs?: number | undefined;
}

/** A target that a MAC had before a restart. */
export interface RestoredTarget {
  readonly mac: MacAddress;
  readonly to: readonly Endpoint[];
  /** Time for which it may be used; undefined: until the plugin has been asked. */
  readonly staleMs?: number | undefined;
}

/** Rows in a form that is cheap to copy. */
export interface TargetList {
  readonly macs: Float64Array;
  readonly ttlMs: Float64Array;
  /** NaN in a row without staleMs. */
  readonly staleMs: Float64Array;
  /** Where the destinations of each row end in `places`. They begin where those of the row before end. */
  readonly ends: Int32Array;
  /** Places in `endpoints`. */
  readonly places: Int32Array;
  readonly endpoints: readonly Endpoint[];
  /** The slot that each endpoint had lately in the thread that has this copy of the list; NONE at first. */
  readonly slots: Int32Array;
}

/** Bounds of one list, so that a thread copies it in less than a millisecond; its last row may exceed the second. */
const MAX_ROWS = 2048;
const MAX_ENDPOINTS = 1024;

/** Packs rows into lists, in their order. */
export function* packTargets(rows: readonly TargetRow[]): Generator<TargetList, void> {
  for (let from = 0; from < rows.length;) {
    const numbers = new Map<Endpoint | string, number>();
    const endpoints: Endpoint[] = [];
    const places: number[] = [];
    const ends: number[] = [];
    let end = from;
    for (; end < rows.length && ends.length < MAX_ROWS && endpoints.length < MAX_ENDPOINTS; end++) {
      for (const to of rows[end].to) {
        // Rows of one destination mostly share the object.
        let number = numbers.get(to);
        if (number === undefined) {
          const key = formatEndpoint(to);
          number = numbers.get(key) ?? endpoints.push(to) - 1;
          numbers.set(key, number).set(to, number);
        }
        places.push(number);
      }
      ends.push(places.length);
    }
    const list: TargetList = {
      macs: new Float64Array(ends.length),
      ttlMs: new Float64Array(ends.length),
      staleMs: new Float64Array(ends.length),
      ends: Int32Array.from(ends),
      places: Int32Array.from(places),
      endpoints,
      slots: new Int32Array(endpoints.length).fill(NONE),
    };
    for (let row = 0; from < end; row++, from++) {
      const { mac, ttlMs, staleMs = NaN } = rows[from];
      list.macs[row] = mac;
      list.ttlMs[row] = ttlMs;
      list.staleMs[row] = staleMs;
    }
    yield list;
  }
}

/** Returns where the destinations of a row begin in `places`. */
export function beginOf({ ends }: TargetList, row: number): number {
  return row === 0 ? 0 : ends[row - 1];
}

/** Returns the age of a row: the object of the row before, if that has the same, as most have. */
export function ageAt(list: TargetList, row: number, before: AnswerAge | undefined): AnswerAge {
  const ttlMs = list.ttlMs[row];
  const staleMs = Number.isNaN(list.staleMs[row]) ? undefined : list.staleMs[row];
  return before?.ttlMs === ttlMs && before.staleMs === staleMs ? before : { ttlMs, staleMs };
}

/** Returns the first row behind a slice that begins at row `from`: at least one row, and as many more as have `work`
 * rows or destinations at most. */
export function sliceEnd(list: TargetList, from: number, work: number): number {
  const { ends } = list;
  const before = beginOf(list, from);
  let end = from + 1;
  while (end < ends.length && end - from < work && ends[end] - before <= work) end++;
  return end;
}
