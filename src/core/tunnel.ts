/**
 * Into the tunnel: the tunnel header goes before the frame, and the flow picks the socket that sends it.
 * overlay.ts has the whole story.
 */
import { DESCRIPTOR_WORDS, type FrameBatch, LENGTH, OFFSET, TOS, WAITING } from '../wire/descriptor.js';
import * as ipv4 from '../wire/ipv4.js';
import * as vlan from '../wire/vlan.js';
import { asksForAnswer } from './peers/asks-for-answer.js';
import { COUNTER } from './counts/counters.js';
import { toOwner } from './deliver.js';
import * as flow from './flow.js';
import { largestFrameBytes, turnCost, wireBytes, wireFrames } from './counts/frame-count.js';
import { FLOOD, HERE, type Overlay, type Port } from './overlay.js';
import { FROM_OWN, REDIRECTED } from './queues/pending-queue.js';
import { TICK_MS } from './tables/target-table.js';

/** A peer that was heard in this time need not be watched for answers. */
const QUIET_TICKS = 1000 / TICK_MS;

/** Sends a frame to one destination. `header`: bytes of the Ethernet header, tags included. */
export function toTunnel(
  overlay: Overlay,
  batch: FrameBatch,
  index: number,
  header: number,
  slot: number,
): void {
  send(overlay, batch, index, slot, encapsulate(overlay, batch, index, header));
}

/** Writes the tunnel header before a frame, and its outer TOS. This is done once per frame, however many
 * destinations it has. Returns the number of the socket that sends the frame's flow. */
function encapsulate(overlay: Overlay, batch: FrameBatch, index: number, header: number): number {
  const { bytes, words, descriptors } = batch;
  const { header: tunnelHeader, options, txSockets } = overlay;
  const at = index * DESCRIPTOR_WORDS;
  const frame = descriptors[at + OFFSET];
  const word = (frame >> 2) - tunnelHeader.length;
  for (let each = 0; each < tunnelHeader.length; each++) words[word + each] = tunnelHeader[each];
  const inner = flow.inspect(bytes, frame, frame + header, frame + descriptors[at + LENGTH]);
  // RFC 6040 4.1, normal mode: the ECN field is copied. The DSCP is copied if the operator says so (RFC
  // 2983).
  descriptors[at + TOS] = options.copyDscp
    ? flow.trafficClass(inner)
    : flow.trafficClass(inner) & ipv4.ECN_MASK;
  return flow.choose(inner, txSockets.length);
}

/** Adds an encapsulated frame to the list of its socket, or counts why its destination cannot have it. */
function send(overlay: Overlay, batch: FrameBatch, index: number, slot: number, socket: number): void {
  const { descriptors } = batch;
  const { counters, drops, txSockets } = overlay;
  const { marks } = overlay.loops;
  const at = index * DESCRIPTOR_WORDS;
  const frames = wireFrames(descriptors, at);
  if (marks !== undefined && marks[slot] === 1) {
    drops.add(COUNTER.tx_loop, frames, batch, index);
    return;
  }
  const { nowTick, destinations, outputs } = overlay.shared;
  const bytes = wireBytes(descriptors, at, frames);
  counters[COUNTER.tx_frames] += frames;
  counters[COUNTER.tx_bytes] += bytes;
  const { records } = overlay.peers;
  const peer = overlay.peers.ofSlot(slot, destinations);
  records.sent(peer, frames, bytes, nowTick);
  if (records.isQuiet(peer, nowTick, QUIET_TICKS) && asksForAnswer(batch, at)) records.asked(peer);
  const { paths } = destinations;
  const datagramBytes = largestFrameBytes(descriptors, at) + overlay.encapsulation.headerBytes;
  if (datagramBytes > paths.largest[slot] && paths.exceeds(slot, datagramBytes, nowTick)) {
    drops.add(COUNTER.tx_path_mtu, frames, batch, index);
    outputs.noteTooBig(index);
    return;
  }
  paths.usedTick[slot] = nowTick;
  outputs.spentSegments = (outputs.spentSegments + turnCost(descriptors, at, frames)) | 0;
  outputs.add(txSockets[socket], batch, index, slot, drops);
}

/** Sends a frame to all destinations of a row. Returns whether it was sent to any. */
export function toDestinations(
  overlay: Overlay,
  from: Port | undefined,
  batch: FrameBatch,
  index: number,
  header: number,
  row: number,
  isRedirected: boolean,
): boolean {
  const slot = overlay.targets.destination(row);
  if (slot === HERE) return toOwner(overlay, from, batch, index, header, isRedirected);
  if (slot !== FLOOD) {
    toTunnel(overlay, batch, index, header, slot);
    return true;
  }
  const socket = encapsulate(overlay, batch, index, header);
  let isOut = false;
  for (const each of overlay.held.floods.get(row) ?? []) {
    if (each !== HERE) send(overlay, batch, index, each, socket);
    isOut = each !== HERE || toOwner(overlay, from, batch, index, header, isRedirected) || isOut;
  }
  return isOut;
}

/** Sends frames that waited for this row, which is now VALID. */
export function sendPending(overlay: Overlay, batch: FrameBatch, count: number, row: number): void {
  for (let index = 0; index < count; index++) {
    const marks = batch.descriptors[index * DESCRIPTOR_WORDS + WAITING];
    const from = marks & FROM_OWN ? overlay.ownPort : undefined;
    const isRedirected = (marks & REDIRECTED) !== 0;
    const header = headerLength(batch, index);
    if (toDestinations(overlay, from, batch, index, header, row, isRedirected) && isRedirected)
      overlay.counters[COUNTER.proxy_dhcp]++;
  }
  overlay.shared.outputs.flush(batch);
}

/** Sends a frame that waited to these slots. */
export function sendTo(overlay: Overlay, batch: FrameBatch, index: number, slots: readonly number[]): void {
  const socket = encapsulate(overlay, batch, index, headerLength(batch, index));
  for (const slot of slots) send(overlay, batch, index, slot, socket);
}

/** Returns the bytes of the Ethernet header, tags included, of a frame that has been through `transmit`. */
export function headerLength({ bytes, descriptors }: FrameBatch, index: number): number {
  const at = index * DESCRIPTOR_WORDS;
  return vlan.headerLength(bytes, descriptors[at + OFFSET], descriptors[at + LENGTH]);
}
