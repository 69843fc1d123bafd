/** Readings of varpd for `dladm top`: what is read for a view, and the rates between two of them. */
import { type Call, ControlError } from '../../control/client.js';
import { readPages } from '../../control/pages.js';
import { readPeers } from '../peers.js';
import { type PeerReading, withPeerRates, withRates } from '../rates.js';
import { type State, viewOf } from './state.js';
import type { Sample } from './views.js';

/** Reads all overlays, or those named. Rejects as `call` does. */
export async function readSample(call: Call, names: readonly string[], state: State): Promise<Sample> {
  const pages = await readPages(call, 'overlay.statistics', names.length > 0 ? { names: [...names] } : {});
  const overlays = pages.flatMap((page) => page.overlays);
  const missing = pages.flatMap((page) => page.missing);
  if (viewOf(state).hasPeers !== true) return { overlays, missing };
  const peers: PeerReading[] = [];
  for (const { name } of overlays)
    if (state.only === null || state.only === name) peers.push(...(await peersOf(call, name)));
  return { overlays, missing, peers };
}

async function peersOf(call: Call, overlay: string): Promise<PeerReading[]> {
  try {
    const rows = await readPeers(call, overlay);
    return rows.map((peer) => ({
      overlay,
      peer,
      counters: [
        { name: 'tx_frames', value: peer.txFrames, perSecond: null },
        { name: 'tx_bytes', value: peer.txBytes, perSecond: null },
        { name: 'rx_frames', value: peer.rxFrames, perSecond: null },
        { name: 'rx_bytes', value: peer.rxBytes, perSecond: null },
      ],
    }));
  } catch (error) {
    // Deleted, or OFFLINE, since its statistics were read.
    if (error instanceof ControlError && ['NOT_FOUND', 'AGAIN'].includes(error.reason)) return [];
    throw error;
  }
}

/** With the rates of the `seconds` since `before`; undefined: with those that varpd says. */
export function rateSample(now: Sample, before: Sample | undefined, seconds: number): Sample {
  if (before === undefined) return now;
  return {
    ...now,
    overlays: withRates(now.overlays, before.overlays, seconds),
    ...(now.peers && { peers: withPeerRates(now.peers, before.peers ?? [], seconds) }),
  };
}
