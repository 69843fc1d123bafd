/** The MTU of an overlay: what the underlay carries, less the headers that are put before each frame. */
import { MAX_MTU_BYTES, MIN_MTU_BYTES } from '../core/properties.js';
import { family, type IpAddress } from '../wire/ip.js';
import { OVERHEAD_IPV4, OVERHEAD_IPV6 } from '../wire/vxlan.js';
import type { Datapath } from './datapath/contract.js';
import type { Links } from './links.js';

/** Ethernet (IEEE 802.3), when neither a route nor a link with the address says anything else. */
const USUAL_UNDERLAY_MTU_BYTES = 1500;

export interface Underlay {
  readonly datapath: Pick<Datapath, 'routeMtuBytes'>;
  readonly links: Pick<Links, 'mtuBytesOf'>;
  readonly listenIp: IpAddress;
  /** Of a point overlay. */
  readonly destinationIp: IpAddress | undefined;
}

/** What `mtu` is when nobody gave one. Never fails: the route may come later than the overlay. */
export function defaultMtuBytes(underlay: Underlay): number {
  const { listenIp } = underlay;
  const mtuBytes = largestMtuBytes(underlay) ?? USUAL_UNDERLAY_MTU_BYTES - overheadBytes(listenIp);
  return Math.min(Math.max(mtuBytes, MIN_MTU_BYTES), MAX_MTU_BYTES);
}

/** The largest inner packet that arrives whole, or undefined when there is no route to tell. */
export function largestMtuBytes(underlay: Underlay): number | undefined {
  const bytes = routeBytes(underlay) ?? linkBytes(underlay);
  return bytes === undefined ? undefined : bytes - overheadBytes(underlay.listenIp);
}

function overheadBytes(listenIp: IpAddress): number {
  return family(listenIp) === 4 ? OVERHEAD_IPV4 : OVERHEAD_IPV6;
}

function routeBytes({ datapath, listenIp, destinationIp }: Underlay): number | undefined {
  if (destinationIp === undefined) return undefined;
  try {
    return datapath.routeMtuBytes(listenIp, destinationIp);
  } catch {
    return undefined; // no route, or not our address: binding will say so
  }
}

/**
 * Many destinations, many routes: the link that has the listen address speaks for them. The route to the listen address
 * itself would not, it goes over loopback and carries 65536 bytes.
 */
function linkBytes({ links, listenIp }: Underlay): number | undefined {
  try {
    return links.mtuBytesOf(listenIp);
  } catch {
    return undefined;
  }
}
