/**
 * Decides whether an overlay can reach its destinations, and explains in words if not. The facts are the
 * kernel's: the listen address, the ways to the destinations (a way is a route and its link), and the state
 * of those links.
 *
 *   up       every destination has a way, and its link works
 *   partly   some have none
 *   down     none has one; or the listen address, which is the source of every packet, is not there
 *
 * An overlay without destinations is judged by the link with the listen address. Only the first link is seen:
 * failures behind it are found by routing protocols, which change the routes.
 *
 * A way may lead into a port of an overlay: then one overlay carries another. That is correct as long as its
 * frames leave the host somewhere. If they can only come back (`isLoop`), each would be wrapped again until
 * it is too big, so nothing is sent that way.
 */
import type { IpAddress } from '../wire/ip.js';
import { counted, notOfThisHost } from './sentences.js';

/** A link that takes tunnel frames whole. */
export interface TunnelLink {
  readonly index: number;
  /** Bytes of the largest IP packet that the route carries. */
  readonly mtuBytes: number;
}

/** The facts that the datapath has to know about the route to a destination. */
export interface RouteFacts {
  readonly to: IpAddress;
  /** Bytes of the largest IP packet that it carries, if less than its link. */
  readonly mtuBytes?: number | undefined;
  /** Its link, if tunnel frames may leave by it. */
  readonly tunnelLink?: TunnelLink | undefined;
}

export type LinkState = 'good' | 'down' | 'no carrier' | 'gone';

export interface UnderlayLink {
  readonly name: string;
  readonly state: LinkState;
  /** Undefined if the link is gone. */
  readonly mtuBytes?: number | undefined;
}

/** The way that carries the smallest packets. */
export interface NarrowWay {
  readonly link: string;
  readonly mtuBytes: number;
  /** The destination, if its route carries less than the link. */
  readonly to: IpAddress | undefined;
}

/** A port of varpd. */
export interface PortPlace {
  readonly overlay: string;
  readonly port: string;
}

export interface Way {
  readonly to: IpAddress;
  /** Whether there is a route from the listen address. */
  readonly hasRoute: boolean;
  /** If there is none: whether this host has a route from another address. */
  readonly hasOtherSource?: boolean;
  /** The link of the route; without a route, the link that it had last. */
  readonly link: UnderlayLink | undefined;
  /** Index of the link of the route; undefined without a route, and for one to this host. */
  readonly index?: number | undefined;
  /** The port that packets leave by, directly or through links on top of it. */
  readonly into?: PortPlace | undefined;
  /** The MTU that is configured on the route, if it is less than the link's; ICMP does not change it. */
  readonly mtuBytes?: number | undefined;
}

export interface UnderlayView {
  readonly overlay: string;
  readonly listenIp: IpAddress;
  /** `tentative`, `duplicate`: states of duplicate address detection (RFC 4862 5.4). */
  readonly address: 'good' | 'tentative' | 'duplicate' | 'absent';
  /** The link that has the address, or had it last. */
  readonly home: UnderlayLink | undefined;
  readonly ways: readonly Way[];
}

export interface Verdict {
  readonly state: 'up' | 'partly' | 'down';
  /** The reason; undefined if the state is up. */
  readonly sentence: string | undefined;
  /** Destinations to which nothing may be sent, since it would come back. */
  readonly loops: readonly IpAddress[];
}

/** Returns the facts about the ways that have any. `takesTunnels`: whether the overlay may send tunnel frames by this link. */
export function routeFacts(ways: readonly Way[], takesTunnels: (link: string) => boolean): RouteFacts[] {
  return ways.flatMap((way) => {
    const { to, mtuBytes } = way;
    const tunnelLink = tunnelLinkOf(way, takesTunnels);
    return mtuBytes === undefined && tunnelLink === undefined ? [] : [{ to, mtuBytes, tunnelLink }];
  });
}

/** A link that is a port of varpd, or is upon one, gets datagrams: they go through varpd again. */
function tunnelLinkOf(
  { hasRoute, index, link, into, mtuBytes = link?.mtuBytes }: Way,
  takesTunnels: (link: string) => boolean,
): TunnelLink | undefined {
  if (!hasRoute || index === undefined || mtuBytes === undefined || into !== undefined) return undefined;
  return link?.state === 'good' && takesTunnels(link.name) ? { index, mtuBytes } : undefined;
}

/** Returns undefined if no way has a link; an overlay without destinations has the link with its address. */
export function narrowestWay({ ways, home }: UnderlayView): NarrowWay | undefined {
  const used = ways.length === 0 ? [{ to: undefined, link: home }] : ways.filter(({ hasRoute }) => hasRoute);
  let narrowest: NarrowWay | undefined;
  for (const { to, link, mtuBytes } of used as readonly Partial<Way>[]) {
    const bytes = mtuBytes ?? link?.mtuBytes;
    if (link === undefined || bytes === undefined || bytes >= (narrowest?.mtuBytes ?? Infinity)) continue;
    narrowest = { link: link.name, mtuBytes: bytes, to: mtuBytes === undefined ? undefined : to };
  }
  return narrowest;
}

const UP: Verdict = { state: 'up', sentence: undefined, loops: [] };

/** Returns the ways of an overlay by its name; none if the name is unknown. */
export type WaysOf = (overlay: string) => readonly Way[];

/** `waysOf` is for all overlays, since they may carry one another. */
export function judge(view: UnderlayView, waysOf: WaysOf): Verdict {
  const { overlay, listenIp, address, home, ways } = view;
  const looping = new Set(ways.filter((way) => isLoop(way, overlay, waysOf)));
  const loops = [...looping].map(({ to }) => to);
  if (address !== 'good') return { state: 'down', sentence: addressSentence(listenIp, address, home), loops };
  if (ways.length === 0) {
    const sentence = linkSentence(home);
    return sentence === undefined ? UP : { state: 'down', sentence, loops };
  }
  const lost = ways.filter(
    (way) => !way.hasRoute || looping.has(way) || linkSentence(way.link) !== undefined,
  );
  if (lost.length === 0) return UP;
  const reasons = lost.map((way) => {
    if (looping.has(way)) return loopReason(way, overlay);
    // If there was never a route, the reason may be the link that has the listen address.
    const sentence = linkSentence(way.link ?? home);
    return sentence === undefined ? routeReason(way, listenIp) : { sentence: () => sentence };
  });
  const sentence = joined(reasons);
  return lost.length === ways.length
    ? { state: 'down', sentence, loops }
    : {
        state: 'partly',
        sentence: `${sentence}: ${lost.length} of ${counted(ways.length, 'destination')} cannot be reached`,
        loops,
      };
}

/** Returns whether frames that `overlay` sends that way can only come back to it. One way out, from any
 * overlay on the way, is enough to make this false: it is not known here which way a frame takes. */
function isLoop(way: Way, overlay: string, waysOf: WaysOf): boolean {
  const seen = new Set<string>();
  const returns = ({ into }: Way): boolean => {
    if (into === undefined) return false;
    if (into.overlay === overlay) return true;
    if (seen.has(into.overlay)) return false;
    seen.add(into.overlay);
    const next = waysOf(into.overlay);
    return next.length > 0 && next.every(returns);
  };
  return returns(way);
}

function addressSentence(
  ip: IpAddress,
  state: Exclude<UnderlayView['address'], 'good'>,
  home: UnderlayLink | undefined,
): string {
  if (state === 'duplicate') return `${ip} is a duplicate: another host has the same address`;
  if (state === 'tentative') return `${ip} is not in use yet: duplicate address detection goes on`;
  // A link that goes down may lose its addresses; then the link is the reason to report.
  return linkSentence(home) ?? notOfThisHost(ip);
}

/** Returns undefined if the link works or is unknown. */
function linkSentence(link: UnderlayLink | undefined): string | undefined {
  if (link === undefined) return undefined;
  switch (link.state) {
    case 'good':
      return undefined;
    case 'down':
      return `link ${link.name} is down`;
    case 'no carrier':
      return `link ${link.name} has no carrier`;
    case 'gone':
      return `link ${link.name} is gone`;
  }
}

/** The reason why one way is lost. Reasons of one kind become one sentence. */
interface Reason {
  /** Undefined: the sentence itself is the kind. */
  readonly kind?: string;
  readonly sentence: (more: number) => string;
}

function routeReason({ to, hasOtherSource }: Way, listenIp: IpAddress): Reason {
  const from = hasOtherSource === true ? ` from ${listenIp}` : '';
  return { kind: `route${from}`, sentence: (more) => `no route${from} to ${to}${others(more)}` };
}

function loopReason({ to, into }: Way, overlay: string): Reason {
  const { port = '', overlay: other = '' } = into ?? {};
  const whose =
    other === overlay ? 'a port of this overlay' : `a port of ${other}, which this overlay carries`;
  return {
    kind: `loop ${port}`,
    sentence: (more) =>
      more === 0
        ? `the route to ${to} leads into ${port}, ${whose}`
        : `the routes to ${to}${others(more)} lead into ${port}, ${whose}`,
  };
}

const others = (more: number): string => (more === 0 ? '' : ` and ${more} more`);

/** Joins the reasons, each kind once, the most frequent first. */
function joined(reasons: readonly Reason[]): string {
  const kinds = new Map<string, { readonly first: Reason; count: number }>();
  for (const first of reasons) {
    const kind = first.kind ?? first.sentence(0);
    const known = kinds.get(kind);
    if (known === undefined) kinds.set(kind, { first, count: 1 });
    else known.count++;
  }
  return [...kinds.values()]
    .sort((a, b) => b.count - a.count)
    .map(({ first, count }) => first.sentence(count - 1))
    .join(', ');
}
