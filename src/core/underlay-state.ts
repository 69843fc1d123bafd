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
 */
import type { IpAddress } from '../wire/ip.js';

export type LinkState = 'good' | 'down' | 'no carrier' | 'gone';

export interface UnderlayLink {
  readonly name: string;
  readonly state: LinkState;
}

export interface Way {
  readonly to: IpAddress;
  readonly hasRoute: boolean;
  /** That the route goes by; without one, the link that it went by last. */
  readonly link: UnderlayLink | undefined;
}

export interface UnderlayView {
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
}

const UP: Verdict = { state: 'up', sentence: undefined };

export function judge(view: UnderlayView): Verdict {
  const { listenIp, address, home, ways } = view;
  if (address !== 'good') return { state: 'down', sentence: addressSentence(listenIp, address, home) };
  if (ways.length === 0) {
    const sentence = linkSentence(home);
    return sentence === undefined ? UP : { state: 'down', sentence };
  }
  const lost = ways
    .filter(({ hasRoute, link }) => !hasRoute || linkSentence(link) !== undefined)
    // Where there was never a route, it may be for want of the link that everything else is on.
    .map((way) => ({ ...way, link: way.link ?? home }));
  if (lost.length === 0) return UP;
  const reasons = reasonsOf(lost);
  return lost.length === ways.length
    ? { state: 'down', sentence: reasons }
    : {
        state: 'partly',
        sentence: `${reasons}: ${lost.length} of ${ways.length} destinations cannot be reached`,
      };
}

function addressSentence(
  ip: IpAddress,
  state: Exclude<UnderlayView['address'], 'good'>,
  home: UnderlayLink | undefined,
): string {
  if (state === 'duplicate') return `${ip} is another host's too, says duplicate address detection`;
  if (state === 'tentative') return `${ip} is not in use yet: duplicate address detection goes on`;
  // A link that goes down may take its addresses along: then it is what is to be mended.
  return linkSentence(home) ?? `${ip} is no address of this host`;
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

/** Each reason once, the one that costs the most first. */
function reasonsOf(lost: readonly Way[]): string {
  const byLink = new Map<string, number>();
  const noRoute: IpAddress[] = [];
  for (const { to, link } of lost) {
    const sentence = linkSentence(link);
    if (sentence === undefined) noRoute.push(to);
    else byLink.set(sentence, (byLink.get(sentence) ?? 0) + 1);
  }
  const reasons = [...byLink];
  if (noRoute.length > 0) {
    const others = noRoute.length === 1 ? '' : ` and ${noRoute.length - 1} more`;
    reasons.push([`no route to ${noRoute[0]}${others}`, noRoute.length]);
  }
  return reasons
    .sort(([, a], [, b]) => b - a)
    .map(([sentence]) => sentence)
    .join(', ');
}
