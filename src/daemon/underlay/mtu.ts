/** The MTU of an overlay: the MTU of the underlay, less the headers that are put before each frame. */
import type { Datapath } from '../../datapath/contract.js';
import { type Encapsulation, overheadBytes } from '../../encap/index.js';
import { MAX_MTU_BYTES, MIN_MTU_BYTES } from '../../model/properties.js';
import type { NarrowWay } from '../../model/underlay-state.js';
import { family, type IpAddress } from '../../wire/ip.js';
import type { Links } from './links.js';

/** MTU of Ethernet (IEEE 802.3), used when neither a route nor a link with the address gives another one. */
const USUAL_UNDERLAY_MTU_BYTES = 1500;
/**
 * Routes that are looked at, 5 us each. With more destinations, as many are taken from all parts of the list:
 * routes of one host differ little.
 */
const MAX_ROUTES = 1024;

export interface MtuSources {
  readonly datapath: Pick<Datapath, 'routeMtuBytes'>;
  readonly links: Pick<Links, 'mtuBytesOf'>;
  readonly encapsulation: Encapsulation;
  readonly listenIp: IpAddress;
  /**
   * The destination of a point overlay, or the peers that a plugin has named. The list is empty when a plugin
   * names no peers before it is asked.
   */
  readonly destinations: readonly IpAddress[];
}

/** Default of `mtu`. Never fails: the route may come later than the overlay. */
export function defaultMtuBytes(underlay: MtuSources): number {
  const mtuBytes = largestMtuBytes(underlay) ?? USUAL_UNDERLAY_MTU_BYTES - overheadOf(underlay);
  return Math.min(Math.max(mtuBytes, MIN_MTU_BYTES), MAX_MTU_BYTES);
}

/**
 * The largest inner packet that arrives whole at every destination, or undefined when there is no route to
 * tell.
 */
export function largestMtuBytes(underlay: MtuSources): number | undefined {
  const bytes = routeBytes(underlay) ?? linkBytes(underlay);
  return bytes === undefined ? undefined : bytes - overheadOf(underlay);
}

function overheadOf({ encapsulation, listenIp }: MtuSources): number {
  return overheadBytes(encapsulation, family(listenIp));
}

/** The smallest MTU of all routes. */
function routeBytes({ datapath, listenIp, destinations }: MtuSources): number | undefined {
  const step = Math.max(1, destinations.length / MAX_ROUTES);
  let smallest = Infinity;
  for (let at = 0; at < destinations.length; at += step) {
    try {
      smallest = Math.min(smallest, datapath.routeMtuBytes(listenIp, destinations[Math.floor(at)]));
    } catch {
      // There is no route, or the address is not ours; binding the socket reports that.
    }
  }
  return smallest === Infinity ? undefined : smallest;
}

/**
 * Stands in for the routes while no destination is known, or none has a route: the MTU of the link that has
 * the listen address. Loopback does not count: it carries 65536 bytes, and no frame leaves by it.
 */
function linkBytes({ links, listenIp }: MtuSources): number | undefined {
  try {
    return links.mtuBytesOf(listenIp);
  } catch {
    return undefined;
  }
}

/** The packets of one port, and the headers that are put before each. */
export interface PortNeed {
  readonly port: string;
  readonly mtuBytes: number;
  readonly headerBytes: number;
}

/** Returns a sentence if the largest packets of a port do not fit the way that carries least. */
export function narrowSentence(needs: readonly PortNeed[], way: NarrowWay | undefined): string | undefined {
  const spare = ({ mtuBytes, headerBytes }: PortNeed): number => way!.mtuBytes - mtuBytes - headerBytes;
  const tight = way === undefined ? [] : needs.filter((need) => spare(need) < 0);
  if (way === undefined || tight.length === 0) return undefined;
  const [{ port, mtuBytes, headerBytes }] = tight.sort((a, b) => spare(a) - spare(b));
  const neededBytes = mtuBytes + headerBytes;
  const [place, mend] =
    way.to === undefined
      ? [`the MTU of ${way.link} is ${way.mtuBytes}`, `the MTU of ${way.link}`]
      : [`the route to ${way.to} carries packets of ${way.mtuBytes} bytes`, 'that of the route'];
  const others = tight.length === 1 ? '' : ` and ${tight.length - 1} more`;
  return (
    `${place}, and full packets of ${port}${others} (MTU ${mtuBytes}) need ${neededBytes}: ` +
    `larger ones are dropped; set ${mend} to ${neededBytes}, or that of ${port} to ${way.mtuBytes - headerBytes}`
  );
}
