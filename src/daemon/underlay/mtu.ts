/** The MTU of an overlay: what the underlay carries, less the headers that are put before each frame. */
import type { Datapath } from '../../datapath/contract.js';
import { type Encapsulation, overheadBytes } from '../../encap/index.js';
import { MAX_MTU_BYTES, MIN_MTU_BYTES } from '../../model/properties.js';
import { family, type IpAddress } from '../../wire/ip.js';
import type { Links } from './links.js';

/** Ethernet (IEEE 802.3), when neither a route nor a link with the address says anything else. */
const USUAL_UNDERLAY_MTU_BYTES = 1500;
/** Routes that are looked at, 5 us each; of more destinations, as many out of all parts of the list. They are few in kind. */
const MAX_ROUTES = 1024;

export interface MtuSources {
  readonly datapath: Pick<Datapath, 'routeMtuBytes'>;
  readonly links: Pick<Links, 'mtuBytesOf'>;
  readonly encapsulation: Encapsulation;
  readonly listenIp: IpAddress;
  /** The one of a point overlay, or the peers that a plugin has named: none, when it names none before it is asked. */
  readonly destinations: readonly IpAddress[];
}

/** What `mtu` is when nobody gave one. Never fails: the route may come later than the overlay. */
export function defaultMtuBytes(underlay: MtuSources): number {
  const mtuBytes = largestMtuBytes(underlay) ?? USUAL_UNDERLAY_MTU_BYTES - overheadOf(underlay);
  return Math.min(Math.max(mtuBytes, MIN_MTU_BYTES), MAX_MTU_BYTES);
}

/** The largest inner packet that arrives whole everywhere, or undefined when there is no route to tell. */
export function largestMtuBytes(underlay: MtuSources): number | undefined {
  const bytes = routeBytes(underlay) ?? linkBytes(underlay);
  return bytes === undefined ? undefined : bytes - overheadOf(underlay);
}

function overheadOf({ encapsulation, listenIp }: MtuSources): number {
  return overheadBytes(encapsulation, family(listenIp));
}

/** The smallest of all routes. */
function routeBytes({ datapath, listenIp, destinations }: MtuSources): number | undefined {
  const step = Math.max(1, destinations.length / MAX_ROUTES);
  let smallest = Infinity;
  for (let at = 0; at < destinations.length; at += step) {
    try {
      smallest = Math.min(smallest, datapath.routeMtuBytes(listenIp, destinations[Math.floor(at)]));
    } catch {
      // no route, or not our address: binding will say so
    }
  }
  return smallest === Infinity ? undefined : smallest;
}

/**
 * Nobody knows a destination yet, or none has a route: the link that has the listen address speaks for them. Loopback does
 * not: it carries 65536 bytes, and no frame leaves by it.
 */
function linkBytes({ links, listenIp }: MtuSources): number | undefined {
  try {
    return links.mtuBytesOf(listenIp);
  } catch {
    return undefined;
  }
}
