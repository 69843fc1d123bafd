/** Rates between two readings of statistics, in place of those of varpd, which are of the last 2 to 4 seconds. */
import type { CounterRow, DropRow, OverlayStatistics } from '../control/messages.js';

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
  const rate = (value: number, past: number | undefined): number =>
    Math.max(0, value - (past ?? 0)) / seconds;
  const rated = (rows: readonly CounterRow[], past: readonly CounterRow[] | undefined): CounterRow[] => {
    const values = valuesOf(past ?? []);
    return rows.map((row) => ({ ...row, perSecond: rate(row.value, values.get(row.name)) }));
  };
  const drops = dropsOf(before);
  const ports = new Map(before.ports.map(({ name, counters }) => [name, counters]));
  return {
    ...now,
    counters: rated(now.counters, before.counters),
    drops: now.drops.map((row): DropRow => ({ ...row, perSecond: rate(row.frames, drops.get(row.reason)) })),
    // A port that is new keeps its rates as well.
    ports: now.ports.map((port) =>
      ports.has(port.name) ? { ...port, counters: rated(port.counters, ports.get(port.name)) } : port,
    ),
  };
}

/** Counters never fall while an overlay runs. */
function hasBegunAgain(now: OverlayStatistics, before: OverlayStatistics): boolean {
  const [values, drops] = [valuesOf(now.counters), dropsOf(now)];
  return (
    before.counters.some(({ name, value }) => (values.get(name) ?? 0) < value) ||
    before.drops.some(({ reason, frames }) => (drops.get(reason) ?? 0) < frames)
  );
}

function valuesOf(rows: readonly CounterRow[]): ReadonlyMap<string, number> {
  return new Map(rows.map(({ name, value }) => [name, value]));
}

function dropsOf({ drops }: OverlayStatistics): ReadonlyMap<string, number> {
  return new Map(drops.map(({ reason, frames }) => [reason, frames]));
}
