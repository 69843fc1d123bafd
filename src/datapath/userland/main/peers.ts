/**
 * The peers of an overlay: an address is one as long as its plugin names it (named-peers.ts), or it is a destination of any
 * of the threads that carry it.
 */
import type { IpAddress } from '../../../wire/ip.js';
import type { DatapathEvents } from '../../contract.js';
import type { PeerChange } from '../protocol.js';

/** Underlay address -> the threads whose destination it is, as bits, and NAMED. */
export type Peers = Map<IpAddress, number>;

/** No thread has this number. */
export const NAMED = 1 << 30;

/** What a thread reports. An address may come and go within one report. */
export function mergePeers(
  thread: number,
  changes: readonly PeerChange[],
  peersOf: (overlay: number) => Peers | undefined,
  events: Pick<DatapathEvents, 'peers'>,
): void {
  const overlays = new Map<number, Map<IpAddress, boolean>>();
  for (const { overlay, ip, isPeer } of changes) {
    const last = overlays.get(overlay) ?? new Map<IpAddress, boolean>();
    overlays.set(overlay, last.set(ip, isPeer));
  }
  for (const [overlay, last] of overlays) {
    const peers = peersOf(overlay);
    if (peers === undefined) continue;
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
    events.peers(overlay, added, removed);
  }
}
