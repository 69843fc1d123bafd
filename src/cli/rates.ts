/** Rates between two readings of statistics, in place of those of varpd, which are of the last 2 to 4 seconds. */
import type { CounterRow, DropRow, OverlayStatistics } from '../control/messages.js';
import type { PeerRow } from '../control/peer-messages.js';

/** A peer with its counters as those of overlays are. */
export interface PeerReading {
  readonly overlay: string;
  readonly peer: PeerRow;
  readonly counters: readonly CounterRow[];
}

/**
 * The readings of `now` with the rates of the `seconds` since `before`. An overlay that was not there before, or
 * that counts from zero again since then, keeps its rates.
 */
export function withRates(
  now: readonly OverlayStatistics[],
  before: readonly OverlayStatistics[],
  seconds: number,
): readonly OverlayStatistics[] {
  const earlier = new Map(before.map((overlay) => [overlay.name, overlay]));
  return now.map((overlay) => {
    const past = earlier.get(overlay.name);
    return past === undefined || hasBegunAgain(overlay, past) ? overlay : between(overlay, past, seconds);
  });
}

function between(now: OverlayStatistics, before: OverlayStatistics, seconds: number): OverlayStatistics {
  const drops = dropsOf(before);
  const ports = new Map(before.ports.map(({ name, counters }) => [name, counters]));
  return {
    ...now,
    counters: rated(now.counters, before.counters, seconds),
    drops: now.drops.map((row): DropRow => ({
      ...row,
      perSecond: rate(row.frames, drops.get(row.reason), seconds),
    })),
    // A port that is new keeps its rates as well.
    ports: now.ports.map((port) =>
      ports.has(port.name)
        ? { ...port, counters: rated(port.counters, ports.get(port.name), seconds) }
        : port,
    ),
  };
}

/** The same for peers, of which varpd says no rates: those of a peer that was not there before are not known. */
export function withPeerRates(
  now: readonly PeerReading[],
  before: readonly PeerReading[],
  seconds: number,
): readonly PeerReading[] {
  const keyOf = ({ overlay, peer }: PeerReading): string => `${overlay} ${peer.ip}`;
  const earlier = new Map(before.map((reading) => [keyOf(reading), reading.counters]));
  return now.map((reading) => {
    const past = earlier.get(keyOf(reading));
    const isKnown = past !== undefined && !haveFallen(reading.counters, past);
    return isKnown ? { ...reading, counters: rated(reading.counters, past, seconds) } : reading;
  });
}

function rated(
  rows: readonly CounterRow[],
  past: readonly CounterRow[] | undefined,
  seconds: number,
): CounterRow[] {
  const values = valuesOf(past ?? []);
  return rows.map((row) => ({ ...row, perSecond: rate(row.value, values.get(row.name), seconds) }));
}

function rate(value: number, past: number | undefined, seconds: number): number {
  return Math.max(0, value - (past ?? 0)) / seconds;
}

/** Counters never fall while an overlay runs. */
function hasBegunAgain(now: OverlayStatistics, before: OverlayStatistics): boolean {
  const drops = dropsOf(now);
  return (
    haveFallen(now.counters, before.counters) ||
    before.drops.some(({ reason, frames }) => (drops.get(reason) ?? 0) < frames)
  );
}

function haveFallen(now: readonly CounterRow[], before: readonly CounterRow[]): boolean {
  const values = valuesOf(now);
  return before.some(({ name, value }) => (values.get(name) ?? 0) < value);
}

function valuesOf(rows: readonly CounterRow[]): ReadonlyMap<string, number> {
  return new Map(rows.map(({ name, value }) => [name, value]));
}

function dropsOf({ drops }: OverlayStatistics): ReadonlyMap<string, number> {
  return new Map(drops.map(({ reason, frames }) => [reason, frames]));
}
