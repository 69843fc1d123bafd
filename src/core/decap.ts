/**
 * In: datagrams from the underlay, to local ports. overlay.ts tells the story. Nothing here can reach a socket.
 */
import { ADDRESS, DESCRIPTOR_WORDS, LENGTH, OFFSET, TOS, type FrameBatch } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import { NO_VNI, TOO_DEEP } from '../wire/reason.js';
import * as vlan from '../wire/vlan.js';
import * as vxlan from '../wire/vxlan.js';
import { COUNTER } from './counters.js';
import * as ecn from './ecn.js';
import { accepts, toGroup, toPort, vlanOf } from './encap.js';
import { NONE } from './mac-index.js';
import type { Mux } from './mux.js';
import type { Overlay } from './overlay.js';
import { recognise } from './partial-checksum.js';

/** Says which port each of the first `count` datagrams of the batch goes to. Flushing is the caller's. */
export function receive(mux: Mux, batch: FrameBatch, count: number): void {
  const { bytes, descriptors } = batch;
  for (let index = 0; index < count; index++) {
    const at = index * DESCRIPTOR_WORDS;
    const outer = descriptors[at + OFFSET];
    const good = vxlan.check(bytes, outer, descriptors[at + LENGTH]);
    if (good < 0) {
      mux.counters[good === NO_VNI ? COUNTER.rx_no_vni : COUNTER.rx_truncated]++;
      continue;
    }
    const overlay = mux.find(vxlan.vni(bytes, outer));
    if (overlay === undefined) {
      mux.counters[COUNTER.rx_unknown_vni]++;
      continue;
    }
    // RFC 7348 5: reserved bits are ignored on receipt. Other implementations drop, so an operator wants to know.
    if (vxlan.hasReservedBits(bytes, outer)) overlay.counters[COUNTER.rx_reserved_bits]++;
    descriptors[at + OFFSET] = outer + vxlan.HEADER_BYTES;
    descriptors[at + LENGTH] -= vxlan.HEADER_BYTES;
    receiveFrame(overlay, batch, index);
  }
}

function receiveFrame(overlay: Overlay, batch: FrameBatch, index: number): void {
  const { bytes, descriptors } = batch;
  const { counters, options } = overlay;
  const at = index * DESCRIPTOR_WORDS;
  const frame = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  if (!options.acceptAny && !overlay.peers.has(descriptors, at + ADDRESS)) {
    counters[COUNTER.rx_unknown_peer]++;
    return;
  }
  const header = vlan.headerLength(bytes, frame, length);
  if (header < 0) {
    counters[header === TOO_DEEP ? COUNTER.rx_vlan : COUNTER.rx_runt]++;
    return;
  }
  const sourceHigh = ethernet.sourceHigh(bytes, frame);
  const sourceLow = ethernet.sourceLow(bytes, frame);
  const group = (sourceHigh & 0x0100) !== 0;
  if (group || (sourceHigh | sourceLow) === 0 || overlay.portIndex.get(sourceHigh, sourceLow) !== NONE) {
    counters[COUNTER.rx_bad_source]++;
    return;
  }
  const tagged = header > ethernet.HEADER_BYTES;
  if (tagged && !options.carryTags) {
    counters[COUNTER.rx_vlan]++;
    return;
  }
  const payload = frame + header;
  const outerEcn = descriptors[at + TOS] & ipv4.ECN_MASK;
  if (outerEcn !== ipv4.NOT_ECT && !ecn.decapsulate(bytes, payload, frame + length, outerEcn)) {
    counters[COUNTER.rx_ecn]++;
    return;
  }
  if (!recognise(bytes, descriptors, at, payload, options.mtuBytes)) {
    counters[COUNTER.rx_too_big]++;
    return;
  }
  if (deliver(overlay, batch, index, frame, header)) {
    counters[COUNTER.rx_frames]++;
    counters[COUNTER.rx_bytes] += length;
  } else {
    counters[COUNTER.rx_no_port]++;
  }
}

/** Whether there is a port that takes the frame. */
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
  toPort(overlay, port, batch, index);
  return true;
}
