/**
 * Out: frames that a port's owner sent go to other local ports (deliver.ts) or into the tunnel (tunnel.ts).
 * overlay.ts has the whole story.
 */
import { read16 } from '../wire/bytes.js';
import {
  CSUM_START,
  DESCRIPTOR_WORDS,
  FLAGS,
  type FrameBatch,
  GSO_TYPE,
  HEADER_BYTES,
  INNER_L3,
  LENGTH,
  OFFSET,
  OUTER_L4,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import { TOO_DEEP } from '../wire/reason.js';
import * as virtio from '../wire/virtio-net.js';
import * as vlan from '../wire/vlan.js';
import { COUNTER } from './counts/counters.js';
import { countOffload } from './counts/offload-use.js';
import { portOf, toGroup, toLocal, toOwner, vlanOf } from './deliver.js';
import { largestFrameBytes, wireBytes, wireFrames } from './counts/frame-count.js';
import { PASS } from './protection/link-protection.js';
import type { Miss } from './lookup.js';
import { NONE } from './tables/mac-index.js';
import { HERE, type Overlay, type Port } from './overlay.js';
import { FROM_OWN, REDIRECTED } from './queues/pending-queue.js';
import { DROP, FREE, NOWHERE, STALE, VALID } from './tables/target-table.js';
import { headerLength, toDestinations, toTunnel } from './tunnel.js';

/** Adds the first `count` frames of the batch to the outputs of their destinations, until they have cost
 * `segments`. Returns how many frames those are. The caller flushes the outputs, and then answers frames
 * that were too big. */
export function transmit(
  overlay: Overlay,
  port: Port,
  batch: FrameBatch,
  count: number,
  segments: number,
): number {
  const { outputs, origin } = overlay.shared;
  origin.port = port;
  origin.isUnderlay = false;
  outputs.spentSegments = 0;
  for (let index = 0; index < count; index++) {
    if (outputs.spentSegments >= segments) return index;
    outputs.spentSegments++;
    transmitFrame(overlay, port, batch, index);
  }
  return count;
}

function transmitFrame(overlay: Overlay, port: Port, batch: FrameBatch, index: number): void {
  const { bytes, descriptors } = batch;
  const { drops } = overlay;
  const at = index * DESCRIPTOR_WORDS;
  const frame = descriptors[at + OFFSET];
  let header = vlan.headerLength(bytes, frame, descriptors[at + LENGTH]);
  if (header < 0) {
    drops.add(header === TOO_DEEP ? COUNTER.tx_vlan : COUNTER.tx_runt, 1, batch, index);
    return;
  }
  const frames = wireFrames(descriptors, at);
  port.counters[COUNTER.tx_frames] += frames;
  port.counters[COUNTER.tx_bytes] += wireBytes(descriptors, at, frames);
  countOffload(overlay.counters, descriptors, at);

  if (port.vid !== 0) {
    if (header === ethernet.HEADER_BYTES) {
      insertTag(batch, at, port.vid);
      header += vlan.HEADER_BYTES;
    } else if (!adoptPriorityTag(bytes, frame, header, port.vid)) {
      drops.add(COUNTER.tx_vlan, frames, batch, index);
      return;
    }
  }
  const frameBytes = largestFrameBytes(descriptors, at);
  const isTooBig = frameBytes - header > overlay.options.mtuBytes;
  if (port.protection !== undefined) {
    const verdict = port.protection.check(batch, at, header, isTooBig);
    if (verdict !== PASS) {
      drops.add(verdict, frames, batch, index);
      port.counters[verdict] += frames;
      return;
    }
  }
  noteSource(overlay, port, bytes, descriptors[at + OFFSET], frames);
  port.tunnelEnds.sent(bytes, descriptors, at, header, overlay.shared.nowTick);
  if (frameBytes < 0) {
    drops.add(COUNTER.tx_malformed, frames, batch, index);
    return;
  }
  if (isTooBig) {
    drops.add(COUNTER.tx_too_big, frames, batch, index);
    overlay.shared.outputs.noteTooBig(index);
    return;
  }

  route(overlay, port, batch, index, header, false);
}

/** Notes the source of a frame that may be sent: the station with the port's MAC, or another station behind
 * the port. */
function noteSource(overlay: Overlay, port: Port, bytes: Uint8Array, frame: number, frames: number): void {
  const high = ethernet.sourceHigh(bytes, frame);
  const low = ethernet.sourceLow(bytes, frame);
  if (high === port.macHigh && low === port.macLow) {
    port.presence.sent(overlay.shared.nowTick);
  } else if (!port.own) {
    overlay.counters[COUNTER.tx_other_source] += frames;
    overlay.notices.otherSource(port, high, low);
  } else if ((high & 0x0100) === 0 && (high | low) !== 0) {
    overlay.stations?.learn(high, low, overlay.shared.nowTick);
  }
}

/** Sends a broadcast that has waited to the one station that it is for, and counts it if it was sent rather
 * than held again. */
export function redirect(overlay: Overlay, port: Port, batch: FrameBatch, index: number): void {
  if (route(overlay, port, batch, index, headerLength(batch, index), true))
    overlay.counters[COUNTER.proxy_dhcp]++;
}

/** Sends a frame that varpd has made in the name of `port`, with the tag that it has on the overlay. The rules
 * for the port's owner do not apply, and no station behind the port has sent it. */
export function transmitMade(overlay: Overlay, port: Port, batch: FrameBatch, index: number): void {
  route(overlay, port, batch, index, headerLength(batch, index), false);
}

/** Sends a frame to local ports and into the tunnel. `header`: bytes of the Ethernet header, tags included.
 * `isRedirected`: local ports have received the frame already. Returns whether the frame was sent to its
 * destination. */
function route(
  overlay: Overlay,
  port: Port,
  batch: FrameBatch,
  index: number,
  header: number,
  isRedirected: boolean,
): boolean {
  const { bytes, descriptors } = batch;
  const { counters, stations } = overlay;
  const at = index * DESCRIPTOR_WORDS;
  const frame = descriptors[at + OFFSET];
  const vid = vlanOf(bytes, frame, header);
  const high = ethernet.destinationHigh(bytes, frame);
  const low = ethernet.destinationLow(bytes, frame);
  const isGroup = ethernet.isGroup(bytes, frame);
  if (isGroup) {
    if (toGroup(overlay, port, vid, batch, index))
      counters[COUNTER.local_frames] += wireFrames(descriptors, at);
  } else {
    const to = portOf(overlay, high, low, vid);
    if (to !== undefined && (to === port || isBehind(overlay, to, batch, index, header)))
      return toLocal(overlay, port, to, batch, index, isRedirected);
    if (stations?.has(high, low, overlay.shared.nowTick) === true)
      return toLocal(overlay, port, overlay.ownPort, batch, index, isRedirected);
  }

  if (header > ethernet.HEADER_BYTES && !overlay.options.carryTags) {
    if (!isGroup && placeOf(overlay, batch, index, header) === HERE)
      return toOwner(overlay, port, batch, index, header, isRedirected);
    overlay.drops.add(COUNTER.tx_vlan, wireFrames(descriptors, at), batch, index);
    return false;
  }
  if (overlay.point !== NOWHERE) {
    toTunnel(overlay, batch, index, header, overlay.point);
    return true;
  }
  return toTarget(overlay, port, batch, index, header, high, low, isRedirected);
}

/** Returns whether the station with a port's MAC is behind that port. If it has been silent for a while, it
 * may have moved. Then in mode dynamic it is where the plugin says, and here if the plugin has no answer; in
 * mode point it is where it was heard last. */
function isBehind(overlay: Overlay, port: Port, batch: FrameBatch, index: number, header: number): boolean {
  const { presence } = port;
  if (presence.isAlive(overlay.shared.nowTick)) return true;
  if (overlay.point !== NOWHERE) return !presence.isDown && !presence.isElsewhere;
  const place = placeOf(overlay, batch, index, header);
  return place === HERE || place === NOWHERE;
}

/** Mode dynamic: returns the destination of a unicast frame in the target table: a slot, FLOOD or HERE.
 * Returns NOWHERE if it is unknown, and then the plugin is asked, but the frame does not wait for the
 * answer. */
function placeOf(overlay: Overlay, batch: FrameBatch, index: number, header: number): number {
  const { targets, shared } = overlay;
  const frame = batch.descriptors[index * DESCRIPTOR_WORDS + OFFSET];
  const row = targets.find(
    ethernet.destinationHigh(batch.bytes, frame),
    ethernet.destinationLow(batch.bytes, frame),
  );
  const state = row === NONE ? FREE : targets.state(row, shared.nowTick);
  if (state === FREE && overlay.point === NOWHERE && overlay.admitsInquiry())
    overlay.inquire(row, missOf(batch, index, header));
  if (state !== VALID && state !== STALE) return NOWHERE;
  targets.touch(row, shared.nowTick);
  return targets.destination(row);
}

/** Mode dynamic: sends, drops or holds a frame as the target table says. */
function toTarget(
  overlay: Overlay,
  port: Port,
  batch: FrameBatch,
  index: number,
  header: number,
  high: number,
  low: number,
  isRedirected: boolean,
): boolean {
  const { targets, shared } = overlay;
  const row = targets.find(high, low);
  const state = row === NONE ? NONE : targets.state(row, shared.nowTick);
  if (state === VALID || state === STALE) {
    targets.touch(row, shared.nowTick);
    if (state === STALE)
      overlay.counters[COUNTER.tx_stale] += wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
    return toDestinations(overlay, port, batch, index, header, row, isRedirected);
  }
  if (state === DROP) {
    targets.touch(row, shared.nowTick);
    const frames = wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
    overlay.drops.add(COUNTER.lookup_drop, frames, batch, index);
    return false;
  }
  const miss = missOf(batch, index, header);
  const isGroup = ethernet.isGroup(batch.bytes, batch.descriptors[index * DESCRIPTOR_WORDS + OFFSET]);
  if (isGroup) overlay.frames.hold(port, batch, index, miss);
  else
    overlay.hold(port, row, batch, index, miss, (port.own ? FROM_OWN : 0) | (isRedirected ? REDIRECTED : 0));
  return false;
}

/** Returns the question about a frame. */
function missOf({ bytes, descriptors }: FrameBatch, index: number, header: number): Miss {
  const frame = descriptors[index * DESCRIPTOR_WORDS + OFFSET];
  return {
    destinationMac: ethernet.destination(bytes, frame),
    sourceMac: ethernet.source(bytes, frame),
    etherType: read16(bytes, frame + header - 2),
    vlan: Math.max(0, vlanOf(bytes, frame, header)),
  };
}

/** Inserts a tag. The frame grows into its headroom: its two addresses move up, and the tag fills the gap. */
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
  if (descriptors[at + GSO_TYPE] !== virtio.GSO_NONE) descriptors[at + HEADER_BYTES] += vlan.HEADER_BYTES;
  if (descriptors[at + GSO_TYPE] & virtio.GSO_TUNNEL) {
    descriptors[at + OUTER_L4] += vlan.HEADER_BYTES;
    descriptors[at + INNER_L3] += vlan.HEADER_BYTES;
  }
}

/** Gives a priority tag the VLAN of an access port. Such a port may send frames that have a priority and no
 * VLAN (vid 0, IEEE 802.1Q 9.6). Returns false for any other tag, also for one behind the priority tag: a
 * receiver that takes the first tag off would find the frame in the VLAN of the second. `header` as in
 * `route`. */
function adoptPriorityTag(bytes: Uint8Array, frame: number, header: number, vid: number): boolean {
  const tag = frame + ethernet.HEADER_BYTES;
  const isOnlyTag = header === ethernet.HEADER_BYTES + vlan.HEADER_BYTES;
  const isPriority = ethernet.etherType(bytes, frame) === vlan.CUSTOMER_TAG && vlan.vlanId(bytes, tag) === 0;
  if (!isOnlyTag || !isPriority) return false;
  bytes[tag] |= vid >> 8;
  bytes[tag + 1] = vid & 0xff;
  return true;
}
