/**
 * Describes the peers of an overlay for `show-peers`: where frames to each of them go, and which stations live
 * there. The latter are in the target table, which may be long, so a call looks at some of its rows
 * (target-rows.ts).
 */
import type { IpAddress } from '../../wire/ip.js';
import { fromHalves, isMulticast, type MacAddress } from '../../wire/mac.js';
import type { TunnelUse } from '../tables/destinations.js';
import { NONE } from '../tables/mac-index.js';
import type { Overlay } from '../overlay.js';
import { isUsable } from '../tables/target-table.js';

/** Rows of one call: some 0.3 ms. */
const SCAN_ROWS = 32_768;
/** MACs that are named for each peer; all are counted. */
export const MAX_STATIONS = 16;

export interface PeerPlace {
  /** Undefined: nothing is sent there. */
  readonly port: number | undefined;
  /** Bytes of IP packet that the path carries, if this thread knows a limit: from ICMP, or that of a route. */
  readonly mtuBytes: number | undefined;
  readonly isMtuLearned: boolean;
  /** Messages of many frames were refused there. */
  readonly refusesSegmentation: boolean;
  /** Whether superframes leave as tunnel frames. */
  readonly tunnelUse: TunnelUse;
  /** Unicast MACs that live there, among the rows of this call. */
  readonly stationCount: number;
  /** The first of them. */
  readonly stations: readonly MacAddress[];
}

export interface PeerPlaces {
  readonly places: readonly PeerPlace[];
  /** The row where the next call begins; undefined if all rows have been looked at. */
  readonly next: number | undefined;
}

export function describePeers(overlay: Overlay, ips: readonly IpAddress[], from: number): PeerPlaces {
  const { targets, shared, peers } = overlay;
  const { destinations, nowTick } = shared;
  const found = ips.map(() => ({ count: 0, macs: [] as MacAddress[] }));
  const placeOf = new Map(ips.map((ip, index) => [ip, found[index]]));
  /** Slot -> place; undefined for those of other peers. */
  const bySlot = new Map<number, (typeof found)[number] | undefined>();
  const end = Math.min(targets.end, from + SCAN_ROWS);
  for (let row = from; row < end; row++) {
    const slot = targets.destination(row);
    if (slot < 0 || !isUsable(targets.state(row, nowTick))) continue;
    const mac = fromHalves(targets.macHigh(row), targets.macLow(row));
    if (isMulticast(mac)) continue;
    if (!bySlot.has(slot)) bySlot.set(slot, placeOf.get(destinations.endpoint(slot).ip));
    const place = bySlot.get(slot);
    if (place === undefined) continue;
    place.count++;
    if (place.macs.length < MAX_STATIONS) place.macs.push(mac);
  }
  const places = ips.map((ip, index) => {
    const slot = peers.slotOf(ip);
    const endpoint = slot === NONE ? undefined : destinations.find(slot);
    const isThere = endpoint?.ip === ip;
    const mtuBytes = isThere ? destinations.paths.bytes(slot) : Infinity;
    return {
      port: isThere ? endpoint.port : undefined,
      mtuBytes: mtuBytes === Infinity ? undefined : mtuBytes,
      isMtuLearned: isThere && destinations.paths.knows(slot, Infinity, nowTick),
      refusesSegmentation: isThere && destinations.refusesSegmentation(slot),
      tunnelUse: isThere ? destinations.tunnelUse(slot) : 'none',
      stationCount: found[index].count,
      stations: found[index].macs,
    };
  });
  return { places, next: end < targets.end ? end : undefined };
}
