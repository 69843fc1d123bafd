/**
 * Out: frames that a port's owner sent, to other local ports and into the tunnel. overlay.ts tells the story.
 */
import { read16 } from '../wire/bytes.js';
import {
  CSUM_START,
  DESCRIPTOR_WORDS,
  FLAGS,
  GSO_SIZE,
  GSO_TYPE,
  LENGTH,
  OFFSET,
  TOS,
  runBytes,
  runFrames,
  type FrameBatch,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as tcp from '../wire/tcp.js';
import * as udp from '../wire/udp.js';
import { TOO_DEEP } from '../wire/reason.js';
import * as virtio from '../wire/virtio-net.js';
import * as vlan from '../wire/vlan.js';
import * as vxlan from '../wire/vxlan.js';
import { COUNTER, type Counters } from './counters.js';
import * as flow from './flow.js';
import { PASS } from './link-protection.js';
import { NONE } from './mac-index.js';
import { KEEP_APART, STRIP_TAG } from './outputs.js';
import { FLOOD, type Overlay, type Port } from './overlay.js';
import { DROP, NOWHERE, VALID } from './target-table.js';

/** Says where each of the first `count` frames of the batch goes. Flushing the outputs is the caller's, and then
 * answering what was too big. */
export function transmit(overlay: Overlay, port: Port, batch: FrameBatch, count: number): void {
  overlay.shared.outputs.forgetTooBig();
  for (let index = 0; index < count; index++) transmitFrame(overlay, port, batch, index);
}

function transmitFrame(overlay: Overlay, port: Port, batch: FrameBatch, index: number): void {
  const { bytes, descriptors } = batch;
  const { counters } = overlay;
  const at = index * DESCRIPTOR_WORDS;
  const frame = descriptors[at + OFFSET];
  let header = vlan.headerLength(bytes, frame, descriptors[at + LENGTH]);
  if (header < 0) {
    counters[header === TOO_DEEP ? COUNTER.tx_vlan : COUNTER.tx_runt]++;
    return;
  }
  port.counters[COUNTER.tx_frames]++;
  port.counters[COUNTER.tx_bytes] += descriptors[at + LENGTH];

  if (port.vid !== 0) {
    if (header === ethernet.HEADER_BYTES) {
      insertTag(batch, at, port.vid);
      header += vlan.HEADER_BYTES;
    } else if (!adoptPriorityTag(bytes, frame, port.vid)) {
      counters[COUNTER.tx_vlan]++;
      return;
    }
  }
  if (port.protection !== undefined) {
    const verdict = port.protection.check(batch, at, header);
    if (verdict !== PASS) {
      counters[verdict]++;
      port.counters[verdict]++;
      return;
    }
  }
  const frameBytes = largestFrameBytes(bytes, descriptors, at);
  if (frameBytes < 0) {
    counters[COUNTER.tx_malformed]++;
    return;
  }
  if (frameBytes - header > overlay.options.mtuBytes) {
    counters[COUNTER.tx_too_big]++;
    overlay.shared.outputs.noteTooBig(index);
    return;
  }

  route(overlay, port, batch, index, header);
}

/** A frame that waited goes on, whatever its destination has become meanwhile. */
export function forward(overlay: Overlay, port: Port, batch: FrameBatch, index: number): void {
  route(overlay, port, batch, index, headerLength(batch, index));
}

/** To other local ports, and the tunnel. `header` = bytes of the Ethernet header, tags included. */
function route(overlay: Overlay, port: Port, batch: FrameBatch, index: number, header: number): void {
  const { bytes } = batch;
  const { counters } = overlay;
  const frame = batch.descriptors[index * DESCRIPTOR_WORDS + OFFSET];
  const tagged = header > ethernet.HEADER_BYTES;
  const vid = vlanOf(bytes, frame, header);
  const high = ethernet.destinationHigh(bytes, frame);
  const low = ethernet.destinationLow(bytes, frame);
  if (ethernet.isGroup(bytes, frame)) {
    if (toGroup(overlay, port, vid, batch, index)) counters[COUNTER.local_frames]++;
  } else {
    const local = overlay.portIndex.get(high, low);
    if (local !== NONE && accepts(overlay.ports[local], vid)) {
      if (overlay.ports[local] === port) {
        counters[COUNTER.tx_hairpin]++;
      } else {
        counters[COUNTER.local_frames]++;
        toPort(overlay, overlay.ports[local], batch, index);
      }
      return;
    }
  }

  if (tagged && !overlay.options.carryTags) {
    counters[COUNTER.tx_vlan]++;
  } else if (overlay.point !== NOWHERE) {
    toTunnel(overlay, batch, index, header, overlay.point);
  } else {
    toTarget(overlay, port, batch, index, header, high, low);
  }
}

/** Bytes of a frame, of the largest segment where it still has to be cut; -1 where it cannot be. */
export function largestFrameBytes(bytes: Uint8Array, descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return descriptors[at + LENGTH];
  const headerBytes = superframeHeaderBytes(bytes, descriptors, at);
  const hasSegments = headerBytes < descriptors[at + LENGTH] && descriptors[at + GSO_SIZE] > 0;
  return hasSegments ? headerBytes + descriptors[at + GSO_SIZE] : -1;
}

/** Counts a frame as what it is on the wire: a superframe as its segments. */
function countSent(counters: Counters, bytes: Uint8Array, descriptors: Int32Array, at: number): void {
  const frames = framesOf(bytes, descriptors, at);
  counters[COUNTER.tx_frames] += frames;
  counters[COUNTER.tx_bytes] += descriptors[at + LENGTH];
  if (frames > 1) counters[COUNTER.tx_bytes] += (frames - 1) * superframeHeaderBytes(bytes, descriptors, at);
}

/** 1, or the segments of a superframe. */
function framesOf(bytes: Uint8Array, descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return 1;
  const headerBytes = superframeHeaderBytes(bytes, descriptors, at);
  return Math.ceil((descriptors[at + LENGTH] - headerBytes) / descriptors[at + GSO_SIZE]);
}

/** From the first byte of a superframe to its TCP or UDP payload. The device says where its transport header is. */
function superframeHeaderBytes(bytes: Uint8Array, descriptors: Int32Array, at: number): number {
  const transport = descriptors[at + CSUM_START];
  const isUdp = (descriptors[at + GSO_TYPE] & ~virtio.GSO_ECN) === virtio.GSO_UDP_L4;
  return (
    transport + (isUdp ? udp.HEADER_BYTES : tcp.headerLength(bytes, descriptors[at + OFFSET] + transport))
  );
}

/** Mode dynamic: what the target table says. */
function toTarget(
  overlay: Overlay,
  port: Port,
  batch: FrameBatch,
  index: number,
  header: number,
  high: number,
  low: number,
): void {
  const { targets, shared, counters } = overlay;
  const row = targets.find(high, low);
  const state = row === NONE ? NONE : targets.state(row, shared.nowTick);
  if (state === VALID) {
    targets.touch(row, shared.nowTick);
    toDestinations(overlay, batch, index, header, row);
  } else if (state === DROP) {
    targets.touch(row, shared.nowTick);
    counters[COUNTER.lookup_drop]++;
  } else {
    const { bytes, descriptors } = batch;
    const frame = descriptors[index * DESCRIPTOR_WORDS + OFFSET];
    const miss = {
      destinationMac: ethernet.destination(bytes, frame),
      sourceMac: ethernet.source(bytes, frame),
      etherType: read16(bytes, frame + header - 2),
      vlan: Math.max(0, vlanOf(bytes, frame, header)),
    };
    if (ethernet.isGroup(bytes, frame)) overlay.frames.hold(port, batch, index, miss);
    else overlay.hold(row, batch, index, miss);
  }
}

/** Frames that waited for row's answer, now that it is VALID. */
export function sendHeld(overlay: Overlay, batch: FrameBatch, count: number, row: number): void {
  for (let index = 0; index < count; index++) {
    toDestinations(overlay, batch, index, headerLength(batch, index), row);
  }
  overlay.shared.outputs.flush(batch);
}

/** A frame that waited goes to these slots. */
export function sendTo(overlay: Overlay, batch: FrameBatch, index: number, slots: readonly number[]): void {
  const header = headerLength(batch, index);
  for (const slot of slots) toTunnel(overlay, batch, index, header, slot);
}

/** Of a frame that has been through `transmit`. */
function headerLength({ bytes, descriptors }: FrameBatch, index: number): number {
  const at = index * DESCRIPTOR_WORDS;
  return vlan.headerLength(bytes, descriptors[at + OFFSET], descriptors[at + LENGTH]);
}

function toDestinations(
  overlay: Overlay,
  batch: FrameBatch,
  index: number,
  header: number,
  row: number,
): void {
  const slot = overlay.targets.destination(row);
  if (slot !== FLOOD) {
    toTunnel(overlay, batch, index, header, slot);
  } else {
    for (const each of overlay.floods.get(row) ?? []) toTunnel(overlay, batch, index, header, each);
  }
}

/** `header` = bytes of the Ethernet header, tags included. */
function toTunnel(overlay: Overlay, batch: FrameBatch, index: number, header: number, slot: number): void {
  const { bytes, words, descriptors } = batch;
  const { counters, senders, options } = overlay;
  const { marks } = overlay.loops;
  const at = index * DESCRIPTOR_WORDS;
  if (marks !== undefined && marks[slot] === 1) {
    counters[COUNTER.tx_loop] += framesOf(bytes, descriptors, at);
    return;
  }
  const frame = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  const word = (frame - vxlan.HEADER_BYTES) >> 2;
  words[word] = overlay.headerFirst;
  words[word + 1] = overlay.headerSecond;
  const inner = flow.inspect(bytes, frame, frame + header, frame + length);
  // RFC 6040 4.1, normal mode: the ECN field is copied. The DSCP is, where the operator says so (RFC 2983).
  descriptors[at + TOS] = options.copyDscp
    ? flow.trafficClass(inner)
    : flow.trafficClass(inner) & ipv4.ECN_MASK;
  countSent(counters, bytes, descriptors, at);
  overlay.shared.outputs.add(senders[flow.choose(inner, senders.length)], batch, index, slot, counters);
}

/** VLAN of a frame whose Ethernet header, tags included, has `header` bytes: 0 when it has no tag, NONE when its outer
 * tag is a provider's, which no access port belongs to. */
export function vlanOf(bytes: Uint8Array, frame: number, header: number): number {
  if (header === ethernet.HEADER_BYTES) return 0;
  if (ethernet.etherType(bytes, frame) !== vlan.CUSTOMER_TAG) return NONE;
  return vlan.vlanId(bytes, frame + ethernet.HEADER_BYTES);
}

/** Whether a port takes part in a VLAN. */
export function accepts(port: Port, vid: number): boolean {
  return port.vid === 0 || port.vid === vid;
}

/** A group frame goes to every port of its VLAN but the one it came from, if any. Whether there was one. */
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
  port.counters[COUNTER.rx_frames] += runFrames(batch.descriptors, at);
  port.counters[COUNTER.rx_bytes] += runBytes(batch.descriptors, at);
  const argument = (port.vid === 0 ? 0 : STRIP_TAG) | (overlay.options.keepApart ? KEEP_APART : 0);
  overlay.shared.outputs.add(port.output, batch, index, argument, overlay.counters);
}

/** The frame grows into its headroom: its two addresses move up, the tag fills the gap. */
function insertTag({ bytes, words, descriptors }: FrameBatch, at: number, vid: number): void {
  const frame = descriptors[at + OFFSET] - vlan.HEADER_BYTES;
  const word = frame >> 2;
  words[word] = words[word + 1];
  words[word + 1] = words[word + 2];
  words[word + 2] = words[word + 3];
  bytes[frame + 12] = vlan.CUSTOMER_TAG >> 8;
  bytes[frame + 13] = vlan.CUSTOMER_TAG & 0xff;
  bytes[frame + 14] = vid >> 8;
  bytes[frame + 15] = vid & 0xff;
  descriptors[at + OFFSET] = frame;
  descriptors[at + LENGTH] += vlan.HEADER_BYTES;
  if (descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM) descriptors[at + CSUM_START] += vlan.HEADER_BYTES;
}

/** An access port may send frames that carry a priority and no VLAN (vid 0, IEEE 802.1Q 9.6); no other tag. */
function adoptPriorityTag(bytes: Uint8Array, frame: number, vid: number): boolean {
  const tag = frame + ethernet.HEADER_BYTES;
  if (ethernet.etherType(bytes, frame) !== vlan.CUSTOMER_TAG || vlan.vlanId(bytes, tag) !== 0) return false;
  bytes[tag] |= vid >> 8;
  bytes[tag + 1] = vid & 0xff;
  return true;
}
