/** Frames to broadcast and multicast: varpd answers ARP, neighbor discovery and DHCP; the rest is dropped or flooded. */
import {
  type Answer,
  type Destination,
  type Lookup,
  MAX_FLOOD_DESTINATIONS,
  proxyFor,
} from '../../src/plugin/index.js';

/** `flood` is undefined when other frames are dropped. */
export function groupAnswer(
  { destinationMac, etherType }: Lookup,
  flood: readonly Destination[] | undefined,
): Answer {
  const to = flood !== undefined && flood.length <= MAX_FLOOD_DESTINATIONS ? flood : undefined;
  const what = proxyFor(destinationMac, etherType);
  if (what !== undefined) return { kind: 'proxy', what, ...(to !== undefined && { otherwise: to }) };
  if (to !== undefined) return { kind: 'flood', to };
  const reason =
    flood === undefined
      ? 'other broadcast and multicast is dropped; nats/flood=on floods it'
      : `the network has ${flood.length} VTEPs, and at most ${MAX_FLOOD_DESTINATIONS} are flooded`;
  return { kind: 'drop', reason };
}
