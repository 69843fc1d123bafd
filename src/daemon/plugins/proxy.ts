/**
 * Handles a frame that a plugin gave to a proxy: reads it, asks the plugin for the one missing fact, and
 * returns the answer for the datapath. Reading frames and building replies is the work of `core`
 * (proxy-*.ts).
 */
import { answerArp, arpAnnouncement, readArp } from '../../core/proxy/proxy-arp.js';
import { readDhcp } from '../../core/proxy/proxy-dhcp.js';
import { answerNdp, ndpAnnouncement, readNdp } from '../../core/proxy/proxy-ndp.js';
import type { LookupAnswer } from '../../datapath/contract.js';
import type { ProxyDrop } from '../../model/drops.js';
import type { MacAddress, ProxyKind } from '../../plugin/contract.js';
import { type Destination, type IpAddress, isV4 } from '../../wire/ip.js';
import { formatMac, isBroadcast } from '../../wire/mac.js';
import { andThen, type Eventually } from './deadline.js';

/** Facts that a plugin is asked for, checked. */
export interface Facts {
  neighbor(ip: IpAddress): Eventually<MacAddress | null>;
  dhcpServer(client: MacAddress): Eventually<MacAddress | null>;
}

/**
 * Floods a frame that turns out to be for no proxy; drops it if the list is empty. Other frames are never
 * flooded.
 */
export function orFlood(answer: LookupAnswer, otherwise: readonly Destination[]): LookupAnswer {
  const isFlood = answer.kind === 'drop' && answer.reason === 'tx_group' && otherwise.length > 0;
  return isFlood ? { kind: 'target', to: otherwise, ttlMs: 0 } : answer;
}

const ETHERTYPE_IPV4 = 0x0800; // RFC 894
const ETHERTYPE_ARP = 0x0806; // RFC 826
const ETHERTYPE_IPV6 = 0x86dd; // RFC 2464 3
const IPV6_MULTICAST = 0x3333; // RFC 2464 7: the high 16 bits of the MAC

/** The proxy that can read frames of this kind to this group MAC, if there is one. */
export function proxyFor(group: MacAddress, etherType: number): ProxyKind | undefined {
  if (etherType === ETHERTYPE_ARP) return 'arp';
  if (etherType === ETHERTYPE_IPV6 && Math.floor(group / 2 ** 32) === IPV6_MULTICAST) return 'ndp';
  return etherType === ETHERTYPE_IPV4 && isBroadcast(group) ? 'dhcp' : undefined;
}

/** Throws or rejects as `facts` do. `warn` gets sentences for the operator, perhaps often. */
export function proxy(
  what: ProxyKind,
  frame: Uint8Array,
  facts: Facts,
  warn: (message: string) => void,
): Eventually<LookupAnswer> {
  switch (what) {
    case 'arp':
      return proxyArp(frame, facts, warn);
    case 'ndp':
      return proxyNdp(frame, facts);
    case 'dhcp':
      return proxyDhcp(frame, facts);
  }
}

/** The frame that tells all stations that `ip` is at `mac`. */
export function announcement(ip: IpAddress, mac: MacAddress): Uint8Array {
  return isV4(ip) ? arpAnnouncement(ip, mac) : ndpAnnouncement(ip, mac);
}

function proxyArp(
  frame: Uint8Array,
  facts: Facts,
  warn: (message: string) => void,
): Eventually<LookupAnswer> {
  const question = readArp(frame);
  if (typeof question === 'string') return drop(question);
  return andThen(facts.neighbor(question.ip), (owner) => {
    const reply = answerArp(frame, question, owner);
    if (typeof reply !== 'string') return { kind: 'reply', frame: reply, counter: 'proxy_arp' };
    if (reply === 'arp_conflict' && owner !== null)
      warn(
        `${formatMac(question.packet.senderMac)} announces ${question.ip}, which is ${formatMac(owner)}'s`,
      );
    return drop(reply);
  });
}

function proxyNdp(frame: Uint8Array, facts: Facts): Eventually<LookupAnswer> {
  const question = readNdp(frame);
  if (typeof question === 'string') return drop(question);
  return andThen(facts.neighbor(question.ip), (owner) => {
    const reply = answerNdp(frame, question, owner);
    return typeof reply === 'string' ? drop(reply) : { kind: 'reply', frame: reply, counter: 'proxy_ndp' };
  });
}

function proxyDhcp(frame: Uint8Array, facts: Facts): Eventually<LookupAnswer> {
  const question = readDhcp(frame);
  if (typeof question === 'string') return drop(question);
  const { kind, client } = question;
  const server = kind === 'toClient' ? client : facts.dhcpServer(client);
  return andThen(server, (to) => (to === null ? drop('proxy_unknown') : { kind: 'redirect', to }));
}

function drop(reason: ProxyDrop): LookupAnswer {
  return { kind: 'drop', reason };
}
