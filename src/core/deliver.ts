/**
 * Delivery of frames to local ports, from the tunnel, another port, or a proxy. Nothing here can reach a
 * socket.
 */
import { DESCRIPTOR_WORDS, type FrameBatch, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import { COUNTER } from './counts/counters.js';
import { wireBytes, wireFrames, WRITE_COST } from './counts/frame-count.js';
import { NONE } from './tables/mac-index.js';
import { KEEP_APART, NESTED, STRIP_TAG } from './outputs.js';
import type { Overlay, Port } from './overlay.js';

/** Returns the VLAN of a frame with an Ethernet header of `header` bytes, tags included: 0 if it has no tag,
 * NONE if its outer tag is a provider's, which no access port belongs to. */
export function vlanOf(bytes: Uint8Array, frame: number, header: number): number {
  if (header === ethernet.HEADER_BYTES) return 0;
  if (ethernet.etherType(bytes, frame) !== vlan.CUSTOMER_TAG) return NONE;
  return vlan.vlanId(bytes, frame + ethernet.HEADER_BYTES);
}

/** Returns whether a port takes part in a VLAN. */
export function accepts(port: Port, vid: number): boolean {
  return port.vid === 0 || port.vid === vid;
}

/** Sends a group frame to every port of its VLAN except the one it came from. Returns whether there was such
 * a port. */
export function toGroup(
  overlay: Overlay,
  from: Port | undefined,
  vid: number,
  batch: FrameBatch,
  index: number,
): boolean {
  let taken = false;
  for (const port of overlay.ports) {
    if (port === from || !accepts(port, vid)) continue;
    toPort(overlay, port, batch, index);
    taken = true;
  }
  return taken;
}

export function toPort(overlay: Overlay, port: Port, batch: FrameBatch, index: number): void {
  const at = index * DESCRIPTOR_WORDS;
  if (port.protection?.learns === true) port.protection.leases.received(batch, index);
  const frames = wireFrames(batch.descriptors, at);
  port.counters[COUNTER.rx_frames] += frames;
  port.counters[COUNTER.rx_bytes] += wireBytes(batch.descriptors, at, frames);
  const { outputs, nowTick } = overlay.shared;
  const { keepApart, keepTunnels } = overlay.options;
  const isNested = keepTunnels !== true && port.tunnelEnds.isEnd(batch.bytes, batch.descriptors, at, nowTick);
  const argument = (port.vid === 0 ? 0 : STRIP_TAG) | (keepApart ? KEEP_APART : 0) | (isNested ? NESTED : 0);
  outputs.spentSegments += WRITE_COST;
  outputs.add(port.output, batch, index, argument, overlay.drops);
}

/** Returns the port that has this MAC and takes frames of this VLAN. */
export function portOf(
  { ports, portIndex }: Overlay,
  high: number,
  low: number,
  vid: number,
): Port | undefined {
  const index = portIndex.get(high, low);
  return index !== NONE && accepts(ports[index], vid) ? ports[index] : undefined;
}

/** Delivers a frame to one port, or counts why not. Returns whether it was delivered. `to` undefined: the
 * overlay has no own port at the moment. */
export function toLocal(
  overlay: Overlay,
  from: Port | undefined,
  to: Port | undefined,
  batch: FrameBatch,
  index: number,
  isRedirected: boolean,
): boolean {
  const { counters, drops } = overlay;
  const frames = wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
  if (to === undefined) drops.add(COUNTER.lookup_drop, frames, batch, index);
  else if (to === from) drops.add(COUNTER.tx_hairpin, frames, batch, index);
  else if (isRedirected) drops.add(COUNTER.proxy_local, frames, batch, index);
  else {
    counters[COUNTER.local_frames] += frames;
    toPort(overlay, to, batch, index);
    return true;
  }
  return false;
}

/** Delivers a frame that is for this host, as the plugin says: to the port with the destination MAC, else to
 * the own port. */
export function toOwner(
  overlay: Overlay,
  from: Port | undefined,
  batch: FrameBatch,
  index: number,
  header: number,
  isRedirected: boolean,
): boolean {
  const { bytes, descriptors } = batch;
  const frame = descriptors[index * DESCRIPTOR_WORDS + OFFSET];
  const high = ethernet.destinationHigh(bytes, frame);
  const low = ethernet.destinationLow(bytes, frame);
  const claimant = portOf(overlay, high, low, vlanOf(bytes, frame, header));
  const to = claimant ?? overlay.ownPort;
  // All stations behind the own port have heard the broadcast, even one that came from there.
  const isHeard = isRedirected && to === from && claimant === undefined;
  return toLocal(overlay, isHeard ? undefined : from, to, batch, index, isRedirected);
}
