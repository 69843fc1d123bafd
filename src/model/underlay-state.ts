/**
 * Whether an overlay can reach anyone, from what the kernel says of its listen address, the ways to its destinations
 * and the links that they take; and in words, why not.
 *
 *   up       every destination has a way, and its link works
 *   partly   some have none
 *   down     none has one; or the listen address, which every packet carries as its source, is not there
 *
 * Of an overlay without destinations the link with the listen address is looked at. What lies behind the first link is
 * not seen: that is for routing protocols, whose routes are.
 *
 * A way may lead into a port of an overlay: one overlay carries another then, which is well as long as its frames leave
 * the host somewhere. Where they can only come back (`isLoop`), each would be wrapped again until it is too big, so
 * nothing is sent that way.
 */
import type { IpAddress } from '../wire/ip.js';
import { notOfThisHost } from './sentences.js';

export interface RouteMtu {
  readonly to: IpAddress;
  /** Of IP packets. */
  readonly mtuBytes: number;
}

export type LinkState = 'good' | 'down' | 'no carrier' | 'gone';

export interface UnderlayLink {
  readonly name: string;
  readonly state: LinkState;
}

/** A port of varpd. */
export interface PortPlace {
  readonly overlay: string;
  readonly port: string;
}

export interface Way {
  readonly to: IpAddress;
  /** From the listen address. */
  readonly hasRoute: boolean;
  /** Where that has none: whether this host has one from another address. */
  readonly hasOtherSource?: boolean;
  /** That the route goes by; without one, the link that it went by last. */
  readonly link: UnderlayLink | undefined;
  /** The port that the packets leave by, at once or through the links upon it. */
  readonly into?: PortPlace | undefined;
  /** What the route was told to carry, where that is less than its link does; ICMP has no say in it. */
  readonly mtuBytes?: number | undefined;
}

export interface UnderlayView {
  readonly overlay: string;
  readonly listenIp: IpAddress;
  /** `tentative`, `duplicate`: as duplicate address detection has it (RFC 4862 5.4). */
  readonly address: 'good' | 'tentative' | 'duplicate' | 'absent';
  /** That has the address, or had it last. */
  readonly home: UnderlayLink | undefined;
  readonly ways: readonly Way[];
}

export interface Verdict {
  readonly state: 'up' | 'partly' | 'down';
  /** What is wrong; undefined while it is up. */
  readonly sentence: string | undefined;
  /** Destinations to which nothing may be sent, as it would come back. */
  readonly loops: readonly IpAddress[];
}

/** Those of the ways that carry less than their link. */
export function routeMtus(ways: readonly Way[]): RouteMtu[] {
  return ways.flatMap(({ to, mtuBytes }) => (mtuBytes === undefined ? [] : [{ to, mtuBytes }]));
}

const UP: Verdict = { state: 'up', sentence: undefined, loops: [] };

/** The ways of an overlay by its name; none of one that is not known. */
export type WaysOf = (overlay: string) => readonly Way[];

/** `waysOf`: of all overlays, for they may carry one another. */
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
    // Where there was never a route, it may be for want of the link that everything else is on.
    const sentence = linkSentence(way.link ?? home);
    return sentence === undefined ? routeReason(way, listenIp) : { sentence: () => sentence };
  });
  const sentence = joined(reasons);
  return lost.length === ways.length
    ? { state: 'down', sentence, loops }
    : {
        state: 'partly',
        sentence: `${sentence}: ${lost.length} of ${ways.length} destinations cannot be reached`,
        loops,
      };
}

/** Whether what `overlay` sends that way can only come back to it. One way out, of whichever overlay on the way, is enough
 * for it not to be so: which of them a frame takes is not known here. */
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
  if (state === 'duplicate') return `${ip} is another host's too, says duplicate address detection`;
  if (state === 'tentative') return `${ip} is not in use yet: duplicate address detection goes on`;
  // A link that goes down may take its addresses along: then it is what is to be mended.
  return linkSentence(home) ?? notOfThisHost(ip);
}

/** Undefined when it works, or is not known. */
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

/** Why one way is lost. Those of one kind become one sentence. */
interface Reason {
  /** Left out: the sentence is the same for all. */
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

/** Each once, the one that costs the most first. */
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
