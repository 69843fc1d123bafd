/** The target table of an overlay as others see it: for `show-overlay -t`, and for the next daemon. */
import type { Endpoint } from '../wire/ip.js';
import { fromHalves, isMulticast, type MacAddress } from '../wire/mac.js';
import { HERE, type Overlay } from './overlay.js';
import { DROP, FREE, PENDING, VALID } from './target-table.js';

/** A row of `show-overlay -t`. */
export interface TargetRow {
  readonly mac: MacAddress;
  readonly state: 'valid' | 'drop' | 'pending';
  readonly to: readonly Endpoint[];
}

/** At most `limit` entries with MACs above `after`, in ascending order. */
export function targetRows(overlay: Overlay, after: MacAddress, limit: number): TargetRow[] {
  const { targets, shared } = overlay;
  let found: { mac: MacAddress; row: number }[] = [];
  const nearest = () => found.sort((a, b) => a.mac - b.mac).slice(0, limit);
  for (const row of targets.rows()) {
    const mac = macOf(overlay, row);
    if (mac <= after || targets.state(row, shared.nowTick) === FREE) continue;
    found.push({ mac, row });
    if (found.length > 8 * limit) found = nearest();
  }
  return nearest().map(({ mac, row }) => ({ mac, ...describe(overlay, row) }));
}

/** At most `limit` stations that frames are sent to now, the one used last first: what a restart is to know. In mode point:
 * those behind the own port. */
export function recentTargets(overlay: Overlay, limit: number): TargetRow[] {
  const { targets, shared, stations, options } = overlay;
  const found: TargetRow[] = [];
  for (const mac of stations?.list(shared.nowTick).slice(0, limit) ?? [])
    found.push({ mac, state: 'valid', to: [options.listen] });
  for (const row of targets.rowsByUse()) {
    if (found.length >= limit) break;
    const mac = macOf(overlay, row);
    // What is sent to a group is asked about frame by frame: there is no question without one.
    if (isMulticast(mac) || targets.state(row, shared.nowTick) !== VALID) continue;
    found.push({ mac, ...describe(overlay, row) });
  }
  return found;
}

function macOf({ targets }: Overlay, row: number): MacAddress {
  return fromHalves(targets.macHigh(row), targets.macLow(row));
}

function describe({ targets, shared, held, options }: Overlay, row: number): Omit<TargetRow, 'mac'> {
  const state = targets.state(row, shared.nowTick);
  if (state === PENDING) return { state: 'pending', to: [] };
  if (state === DROP) return { state: 'drop', to: [] };
  const slots = held.floods.get(row) ?? [targets.destination(row)];
  const to = slots.map((slot) => (slot === HERE ? options.listen : shared.destinations.endpoint(slot)));
  return { state: 'valid', to };
}
