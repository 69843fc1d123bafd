/** Peers, for the commands that show them. */
import type { Call } from '../control/client.js';
import type { PeerRow } from '../control/peer-messages.js';
import { readPages } from '../control/pages.js';

/** Rejects as `call` does. */
export async function readPeers(call: Call, name: string): Promise<PeerRow[]> {
  return (await readPages(call, 'overlay.peers', { name })).flatMap(({ rows }) => rows);
}

export function isTroubled({ state }: PeerRow): boolean {
  return state === 'unreachable' || state === 'silent';
}

export function peerText({ ip }: PeerRow): string {
  return ip ?? 'others';
}
