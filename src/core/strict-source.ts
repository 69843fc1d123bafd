/**
 * <encap>/strict-source: the source MAC of a frame must live behind the peer that sent the frame. So one
 * VTEP, or a guest behind it, cannot pretend to be a station of another VTEP. The target table says where a
 * MAC lives, for both directions.
 *
 * If the table does not have the MAC, the plugin is asked, as for a frame to that MAC. Until the answer is
 * there, frames from that MAC are dropped: a sender tries again within a second, and no unproven frame ever
 * passes.
 */
import { read16 } from '../wire/bytes.js';
import { ADDRESS, type FrameBatch, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as mac from '../wire/mac.js';
import { COUNTER } from './counts/counters.js';
import { vlanOf } from './deliver.js';
import { NONE } from './tables/mac-index.js';
import { FLOOD, type Overlay, type Port } from './overlay.js';
import { DROP, NOWHERE, PENDING, STALE, VALID } from './tables/target-table.js';

/** Returns the counter of the drop, or NONE if the inner source lives at the sender. `header`: bytes of the
 * Ethernet header, tags included. */
export function strangerAt(overlay: Overlay, batch: FrameBatch, at: number, header: number): number {
  const { targets, shared, point } = overlay;
  const { bytes, descriptors } = batch;
  if (point !== NOWHERE) return verdictOf(shared.destinations.isAt(point, descriptors, at + ADDRESS));
  const frame = descriptors[at + OFFSET];
  const row = targets.find(ethernet.sourceHigh(bytes, frame), ethernet.sourceLow(bytes, frame));
  const state = row === NONE ? NONE : targets.state(row, shared.nowTick);
  if (state === VALID || state === STALE) {
    targets.touch(row, shared.nowTick);
    return verdictOf(livesAt(overlay, row, descriptors, at + ADDRESS));
  }
  if (state === DROP) return COUNTER.rx_source_mismatch;
  if (state !== PENDING && overlay.admitsInquiry()) {
    overlay.inquire(row, {
      destinationMac: ethernet.source(bytes, frame),
      sourceMac: ethernet.isGroup(bytes, frame) ? macOf(overlay.ownPort) : ethernet.destination(bytes, frame),
      etherType: read16(bytes, frame + header - 2),
      vlan: Math.max(0, vlanOf(bytes, frame, header)),
    });
  }
  return COUNTER.rx_source_unknown;
}

function macOf(port: Port | undefined): mac.MacAddress {
  return port === undefined ? mac.ZERO : mac.fromHalves(port.macHigh, port.macLow);
}

function verdictOf(isAtHome: boolean): number {
  return isAtHome ? NONE : COUNTER.rx_source_mismatch;
}

function livesAt(overlay: Overlay, row: number, words: Int32Array, at: number): boolean {
  const { destinations } = overlay.shared;
  const slot = overlay.targets.destination(row);
  if (slot >= 0) return destinations.isAt(slot, words, at);
  if (slot === FLOOD)
    for (const each of overlay.held.floods.get(row) ?? [])
      if (each >= 0 && destinations.isAt(each, words, at)) return true;
  return false;
}
