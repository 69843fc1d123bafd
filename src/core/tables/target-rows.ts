/**
 * Reads the target table of an overlay for `show-overlay -t` and for the next process.
 *
 * A table may have a million entries, and the thread that moves frames reads it, so it reads in parts. First
 * a scan looks at some rows for MACs, and the caller comes back with the row where the scan ended. Then some
 * of those MACs are described. An entry keeps its row as long as it exists, so an entry that exists during
 * all parts is found, and found once.
 */
import type { Endpoint } from '../../wire/ip.js';
import { fromHalves, highOf, isMulticast, lowOf, type MacAddress } from '../../wire/mac.js';
import type { Overlay } from '../overlay.js';
import { NONE } from './mac-index.js';
import type { RestoredTarget } from './target-list.js';
import {
  DROP,
  FREE,
  HERE,
  isUsable,
  type Origin,
  PENDING,
  STALE,
  type TargetTable,
  TICK_MS,
} from './target-table.js';

/** Rows of one scan: some 0.3 ms. */
const SCAN_ROWS = 32_768;
/** Destinations of one description, all its rows together. A single row may have more. */
const MAX_DESTINATIONS = 512;

/** A row of `show-overlay -t`. */
export interface TableRow {
  readonly mac: MacAddress;
  readonly state: 'valid' | 'drop' | 'pending';
  readonly to: readonly Endpoint[];
  /** Undefined for a station of mode point. */
  readonly facts?: TargetFacts | undefined;
}

export interface TargetFacts {
  /** Undefined for a row that awaits its answer. */
  readonly origin: Origin | undefined;
  /** Since it is as it is. */
  readonly ageMs: number;
  /** Since a frame used it last, to a second; undefined if none has. */
  readonly idleMs: number | undefined;
  /** Until it is no longer fresh; undefined if that has no time. */
  readonly ttlMs: number | undefined;
  /** It is used although it is not fresh: the plugin is asked, or is to be asked, or asking fails. */
  readonly isStale: boolean;
  /** Time for which it may be used after ttlMs; undefined if the plugin's answer has no staleMs. */
  readonly staleMs: number | undefined;
}

/** Returns what the next process is to know of a row. */
export function restorable({ mac, to, facts }: Pick<TableRow, 'mac' | 'to' | 'facts'>): RestoredTarget {
  const { ttlMs, staleMs } = facts ?? {};
  return { mac, to, ...(ttlMs !== undefined && staleMs !== undefined && { staleMs: ttlMs + staleMs }) };
}

export interface TargetScan {
  /** In no order. */
  readonly macs: Float64Array;
  /** The time since each MAC was last used. */
  readonly idleTicks: Int32Array;
  /** The row where the next scan begins; undefined if all rows have been looked at. */
  readonly next: number | undefined;
}

export interface TargetDescription {
  readonly rows: readonly TableRow[];
  /** The number of MACs that were looked up; the others are to be asked for again. */
  readonly count: number;
}

/** Returns MACs above `after` and below `before`, from the rows that begin at `from`. */
export function scanTargets(
  overlay: Overlay,
  from: number,
  after: MacAddress,
  before: MacAddress,
): TargetScan {
  const { targets, shared } = overlay;
  return scan(
    overlay,
    from,
    [],
    (row, mac) => mac > after && mac < before && targets.state(row, shared.nowTick) !== FREE,
  );
}

/** Returns the MACs that the next process should know: single stations that frames are sent to, idle for less
 * than `maxIdleTicks`. In mode point: the stations behind the own port. */
export function scanRecent(overlay: Overlay, from: number, maxIdleTicks: number): TargetScan {
  const { targets, shared, stations } = overlay;
  const here = from === 0 ? (stations?.list(shared.nowTick) ?? []) : [];
  // Group MACs are left out: a question about a group MAC needs a frame, and a restored entry has none.
  return scan(
    overlay,
    from,
    here,
    (row, mac) =>
      isUsable(targets.state(row, shared.nowTick)) &&
      targets.idleTicks(row, shared.nowTick) < maxIdleTicks &&
      !isMulticast(mac),
  );
}

function scan(
  { targets, shared }: Overlay,
  from: number,
  macs: MacAddress[],
  isWanted: (row: number, mac: MacAddress) => boolean,
): TargetScan {
  const idleTicks = macs.map(() => 0);
  const end = Math.min(targets.end, from + SCAN_ROWS);
  for (let row = from; row < end; row++) {
    const mac = fromHalves(targets.macHigh(row), targets.macLow(row));
    if (!isWanted(row, mac)) continue;
    macs.push(mac);
    idleTicks.push(targets.idleTicks(row, shared.nowTick));
  }
  const next = end < targets.end ? end : undefined;
  return { macs: Float64Array.from(macs), idleTicks: Int32Array.from(idleTicks), next };
}

/** Returns the rows of these MACs in their order, without those that the table does not have. */
export function describeTargets(overlay: Overlay, macs: Float64Array): TargetDescription {
  const rows: TableRow[] = [];
  let count = 0;
  let destinations = 0;
  for (; count < macs.length && destinations < MAX_DESTINATIONS; count++) {
    const row = describe(overlay, macs[count]);
    if (row === undefined) continue;
    rows.push(row);
    destinations += row.to.length;
  }
  return { rows, count };
}

function describe(
  { targets, shared, held, options, stations }: Overlay,
  mac: MacAddress,
): TableRow | undefined {
  const row = targets.find(highOf(mac), lowOf(mac));
  const state = row === NONE ? FREE : targets.state(row, shared.nowTick);
  if (state === PENDING || state === DROP)
    return {
      mac,
      state: state === DROP ? 'drop' : 'pending',
      to: [],
      facts: factsOf(targets, row, shared.nowTick),
    };
  if (state === FREE) {
    const isStation = stations?.has(highOf(mac), lowOf(mac), shared.nowTick) === true;
    return isStation ? { mac, state: 'valid', to: [options.listen] } : undefined;
  }
  const slots = held.floods.get(row) ?? [targets.destination(row)];
  const to = slots.map((slot) => (slot === HERE ? options.listen : shared.destinations.endpoint(slot)));
  return { mac, state: 'valid', to, facts: factsOf(targets, row, shared.nowTick) };
}

function factsOf(targets: TargetTable, row: number, nowTick: number): TargetFacts {
  const leftTicks = targets.leftTicks(row, nowTick);
  return {
    origin: targets.state(row, nowTick) === PENDING ? undefined : targets.history.origin(row),
    ageMs: targets.history.ageTicks(row, nowTick) * TICK_MS,
    idleMs: targets.history.wasUsed(row) ? targets.idleTicks(row, nowTick) * TICK_MS : undefined,
    ttlMs: leftTicks === Infinity ? undefined : leftTicks * TICK_MS,
    isStale: targets.state(row, nowTick) === STALE,
    staleMs: targets.staleMs(row, nowTick),
  };
}
