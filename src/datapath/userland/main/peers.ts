/**
 * The peers of an overlay. An address is a peer as long as the plugin names it (named-peers.ts), or as it is
 * a destination of any thread that carries the overlay.
 */
import type { AddressMap } from '../../../model/address-map.js';
import type { IpAddress } from '../../../wire/ip.js';
import type { OverlayListener } from '../../contract.js';
import type { PeerChange } from '../protocol.js';

/** Underlay address -> bits of the threads that have it as a destination, and NAMED. */
export type PeerThreads = AddressMap<number>;

export type PeerNews = OverlayListener['peers'];

/** Bit for an address that the plugin names; no thread has this number. */
export const NAMED = 1 << 30;

/** Merges the report of a thread about one overlay; the report may have an address several times. `news` gets
 * the addresses that have become peers, and those that have ceased to be peers. */
export function mergePeers(
  thread: number,
  changes: readonly PeerChange[],
  peers: PeerThreads,
  news: PeerNews,
): void {
  const last = new Map(changes.map(({ ip, isPeer }) => [ip, isPeer]));
  const added: IpAddress[] = [];
  const removed: IpAddress[] = [];
  for (const [ip, isPeer] of last) {
    const before = peers.get(ip) ?? 0;
    const after = isPeer ? before | (1 << thread) : before & ~(1 << thread);
    if (after === 0) peers.delete(ip);
    else peers.set(ip, after);
    if (before === 0 && after !== 0) added.push(ip);
    if (before !== 0 && after === 0) removed.push(ip);
  }
  if (added.length + removed.length > 0) news(added, removed);
}
