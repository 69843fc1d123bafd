/**
 * What becomes of a frame that a plugin gave to a proxy: it is read, the plugin is asked for the one fact that is
 * missing, and the datapath is told what to do with that frame. Reading and building are core's (proxy-*.ts).
 */
import { answerArp, arpAnnouncement, readArp } from '../../core/proxy-arp.js';
import { readDhcp } from '../../core/proxy-dhcp.js';
import { answerNdp, ndpAnnouncement, readNdp } from '../../core/proxy-ndp.js';
import type { LookupAnswer } from '../../datapath/contract.js';
import type { ProxyDrop } from '../../model/drops.js';
import type { Destination, MacAddress, ProxyKind } from '../../plugin/contract.js';
import { type IpAddress, isV4 } from '../../wire/ip.js';
import { formatMac } from '../../wire/mac.js';
import { andThen, type Eventually } from './deadline.js';

/** What a plugin knows, checked. */
export interface Facts {
  neighbor(ip: IpAddress): Eventually<MacAddress | null>;
  dhcpServer(client: MacAddress): Eventually<MacAddress | null>;
}

/** Where a frame goes that turns out to be for no proxy; nowhere if the list is empty. Others are never flooded. */
export function orFlood(answer: LookupAnswer, otherwise: readonly Destination[]): LookupAnswer {
  const isFlood = answer.kind === 'drop' && answer.reason === 'tx_group' && otherwise.length > 0;
  return isFlood ? { kind: 'target', to: otherwise, ttlMs: 0 } : answer;
}

/** Throws or rejects as `facts` do. `warn` hears what an operator should know of, and may hear it often. */
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

/** What tells everyone that `ip` is at `mac`. */
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
