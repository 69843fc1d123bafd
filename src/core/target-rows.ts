/**
 * The target table as the operator sees it: `show-overlay -t`, page by page.
 */
import type { Endpoint } from '../wire/ip.js';
import { fromHalves, type MacAddress } from '../wire/mac.js';
import type { Overlay } from './overlay.js';
import { DROP, FREE, PENDING } from './target-table.js';

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
    const mac = fromHalves(targets.macHigh(row), targets.macLow(row));
    if (mac <= after || targets.state(row, shared.nowTick) === FREE) continue;
    found.push({ mac, row });
    if (found.length > 8 * limit) found = nearest();
  }
  return nearest().map(({ mac, row }) => ({ mac, ...describe(overlay, row) }));
}

function describe({ targets, shared, floods }: Overlay, row: number): Omit<TargetRow, 'mac'> {
  const state = targets.state(row, shared.nowTick);
  if (state === PENDING) return { state: 'pending', to: [] };
  if (state === DROP) return { state: 'drop', to: [] };
  const slots = floods.get(row) ?? [targets.destination(row)];
  return { state: 'valid', to: slots.map((slot) => shared.destinations.endpoint(slot)) };
}
