/**
 * The peers of an overlay: an address is one as long as its plugin names it (named-peers.ts), or it is a destination of any
 * of the threads that carry it.
 */
import type { IpAddress } from '../../../wire/ip.js';
import type { OverlayListener } from '../../contract.js';
import type { PeerChange } from '../protocol.js';

/** Underlay address -> the threads whose destination it is, as bits, and NAMED. */
export type PeerThreads = Map<IpAddress, number>;

export type PeerNews = OverlayListener['peers'];

/** No thread has this number. */
export const NAMED = 1 << 30;

/** Takes over the report of a thread about one overlay, which may name an address several times. `news` hears which addresses
 * have become peers, and which have ceased to be peers. */
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
