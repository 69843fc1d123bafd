/**
 * In: from datagrams of the underlay to local ports. overlay.ts has the whole story. Nothing here can reach a
 * socket.
 */
import { read16 } from '../wire/bytes.js';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  type FrameBatch,
  GSO_SIZE,
  LENGTH,
  OFFSET,
  RUN_END,
  runFrames,
  SEGMENT,
  TOS,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import { BAD_OPTION, BAD_VALUE, BAD_VERSION, CONTROL, CRITICAL, NO_VNI, TOO_DEEP } from '../wire/reason.js';
import * as vlan from '../wire/vlan.js';
import { noteUncoalesced } from './peers/coalescing.js';
import { COUNTER } from './counts/counters.js';
import { accepts, toGroup, toPort, vlanOf } from './deliver.js';
import * as ecn from './ecn.js';
import { wireBytes, wireFrames } from './counts/frame-count.js';
import { takeLoopback } from './probe/loopback.js';
import { NONE } from './tables/mac-index.js';
import type { Mux } from './mux.js';
import type { Overlay, Port } from './overlay.js';
import { recognise } from './partial-checksum.js';
import { strangerAt } from './strict-source.js';
import { NOWHERE } from './tables/target-table.js';

/** Adds each of the first `count` datagrams of the batch to the outputs of its ports. The caller flushes
 * them. */
export function receive(mux: Mux, batch: FrameBatch, count: number): void {
  const { bytes, descriptors } = batch;
  const { encapsulation, origin } = mux;
  origin.port = undefined;
  origin.isUnderlay = true;
  if (mux.drops.capture !== undefined) mux.drops.capture.fromTunnel(mux, batch, count);
  noteUncoalesced(mux, batch, count);
  for (let index = 0; index < count; index++) {
    const at = index * DESCRIPTOR_WORDS;
    const outer = descriptors[at + OFFSET];
    const header = encapsulation.check(bytes, outer, descriptors[at + LENGTH]);
    if (header < 0) {
      mux.drops.add(badDatagram(header, descriptors, at), runFrames(descriptors, at), batch, index);
      continue;
    }
    const overlay = mux.find(encapsulation.id(bytes, outer));
    if (overlay === undefined) {
      mux.drops.add(COUNTER.rx_unknown_vni, runFrames(descriptors, at), batch, index);
      continue;
    }
    descriptors[at + OFFSET] = outer + header;
    descriptors[at + LENGTH] -= header;
    const frames = receiveFrame(overlay, batch, index);
    // RFC 7348 5, RFC 8926 3.4: reserved bits are ignored on receipt. Other implementations drop such frames,
    // so they are counted.
    if (encapsulation.hasReservedBits(bytes, outer)) overlay.counters[COUNTER.rx_reserved_bits] += frames;
  }
}

/** Returns the counter for a datagram that `check` refused. A run of length 0 is a message that the native
 * layer dropped; GSO_SIZE says why. */
function badDatagram(reason: number, descriptors: Int32Array, at: number): number {
  switch (reason) {
    case NO_VNI:
      return COUNTER.rx_no_vni;
    case BAD_VERSION:
      return COUNTER.rx_version;
    case BAD_VALUE:
      return COUNTER.rx_protocol;
    case CONTROL:
      return COUNTER.rx_control;
    case CRITICAL:
      return COUNTER.rx_critical_option;
    case BAD_OPTION:
      return COUNTER.rx_bad_option;
    default:
      return descriptors[at + GSO_SIZE] === 0 ? COUNTER.rx_truncated : COUNTER.rx_ambiguous;
  }
}

/** Handles a frame, or a run of frames. All frames of a run have the same header up to the traffic class, so
 * a decision about the first holds for all. Returns how many were delivered. */
function receiveFrame(overlay: Overlay, batch: FrameBatch, index: number): number {
  const { bytes, descriptors } = batch;
  const { counters, drops, options, peers, shared } = overlay;
  const at = index * DESCRIPTOR_WORDS;
  const frame = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  const frames = runFrames(descriptors, at);
  const peer = peers.admit(descriptors, at + ADDRESS, shared.nowTick);
  if (peer === NONE) {
    drops.add(COUNTER.rx_unknown_peer, frames, batch, index);
    return 0;
  }
  const header = vlan.headerLength(bytes, frame, length);
  if (header < 0) {
    drops.add(header === TOO_DEEP ? COUNTER.rx_vlan : COUNTER.rx_runt, frames, batch, index);
    return 0;
  }
  const sourceHigh = ethernet.sourceHigh(bytes, frame);
  const sourceLow = ethernet.sourceLow(bytes, frame);
  const group = (sourceHigh & 0x0100) !== 0;
  const own = overlay.portIndex.get(sourceHigh, sourceLow);
  const isNobody = group || (sourceHigh | sourceLow) === 0;
  if (isNobody || (own !== NONE && isEcho(overlay, overlay.ports[own], batch, at, header))) {
    drops.add(COUNTER.rx_bad_source, frames, batch, index);
    overlay.notices.badSource(batch, at);
    return 0;
  }
  if (options.strictSource) {
    const verdict = strangerAt(overlay, batch, at, header);
    if (verdict !== NONE) {
      drops.add(verdict, frames, batch, index);
      return 0;
    }
  }
  const tagged = header > ethernet.HEADER_BYTES;
  if (tagged && !options.carryTags) {
    drops.add(COUNTER.rx_vlan, frames, batch, index);
    return 0;
  }
  const payload = frame + header;
  if (!combineMarks(bytes, descriptors, at, header, frames)) {
    drops.add(COUNTER.rx_ecn, frames, batch, index);
    return 0;
  }
  // The native layer looks into a run for checksums, since it has many frames. The first frame of a run is
  // the longest.
  const fits = length - header <= options.mtuBytes;
  if (frames === 1 ? !recognise(bytes, descriptors, at, payload, options.mtuBytes) : !fits) {
    drops.add(COUNTER.rx_too_big, frames, batch, index);
    return 0;
  }
  // The station with this MAC sends from elsewhere, so it is not here, or no longer.
  if (own !== NONE) overlay.ports[own].presence.heardElsewhere();
  overlay.stations?.forget(sourceHigh, sourceLow);
  if (overlay.probe !== undefined) overlay.probe.heard(batch, index, header);
  if (read16(bytes, payload - 2) === ethernet.FAULT_MANAGEMENT && takeLoopback(overlay, batch, index, header))
    return 0;
  // Counted only now: `recognise` may have found an uncut superframe.
  const delivered = wireFrames(descriptors, at);
  if (!deliver(overlay, batch, index, frame, header)) {
    drops.add(COUNTER.rx_no_port, delivered, batch, index);
    return 0;
  }
  const deliveredBytes = wireBytes(descriptors, at, delivered);
  counters[COUNTER.rx_frames] += delivered;
  counters[COUNTER.rx_bytes] += deliveredBytes;
  peers.records.received(peer, delivered, deliveredBytes);
  return delivered;
}

/** Returns whether a frame out of the tunnel, with the MAC of a port as its source, is a frame of that port
 * that came back. It is if the port has just sent, and the plugin does not say that the MAC lives where the
 * frame comes from. */
function isEcho(overlay: Overlay, port: Port, batch: FrameBatch, at: number, header: number): boolean {
  if (!port.presence.mayEcho(overlay.shared.nowTick)) return false;
  return overlay.point !== NOWHERE || strangerAt(overlay, batch, at, header) !== NONE;
}

/** Applies RFC 6040 to every frame of a run. Returns false if they must be dropped. An outer Not-ECT or
 * ECT(0) never changes anything. */
function combineMarks(
  bytes: Uint8Array,
  descriptors: Int32Array,
  at: number,
  header: number,
  frames: number,
): boolean {
  const outer = descriptors[at + TOS] & ipv4.ECN_MASK;
  if (outer === ipv4.NOT_ECT || outer === ipv4.ECT_0) return true;
  const frame = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  const end = frames === 1 ? frame + length : descriptors[at + RUN_END];
  for (let next = frame; next < end; next += descriptors[at + SEGMENT]) {
    if (!ecn.decapsulate(bytes, next + header, Math.min(next + length, end), outer)) return false;
    if (frames === 1) break;
  }
  return true;
}

/** Delivers a frame to its ports. Returns whether a port takes it. */
function deliver(overlay: Overlay, batch: FrameBatch, index: number, frame: number, header: number): boolean {
  const { bytes } = batch;
  const vid = vlanOf(bytes, frame, header);
  if (ethernet.isGroup(bytes, frame)) return toGroup(overlay, undefined, vid, batch, index);
  const local = overlay.portIndex.get(
    ethernet.destinationHigh(bytes, frame),
    ethernet.destinationLow(bytes, frame),
  );
  const port = local === NONE ? overlay.ownPort : overlay.ports[local];
  if (port === undefined || !accepts(port, vid)) return false;
  if (local === NONE)
    overlay.counters[COUNTER.rx_unclaimed] += wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
  toPort(overlay, port, batch, index);
  return true;
}
