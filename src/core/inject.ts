/** Frames that come from no device: made on the control side, and delivered to ports as if they came out of
 * the tunnel. */
import { DESCRIPTOR_WORDS, type FrameBatch, HEADROOM_BYTES, LENGTH, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import { COUNTER } from './counts/counters.js';
import { toPort } from './deliver.js';
import { WRITE_COST } from './counts/frame-count.js';
import type { Overlay, Port } from './overlay.js';

/** Delivers a frame to one port. An access port takes the tag out. */
export function deliverTo(overlay: Overlay, port: Port, frame: Uint8Array): void {
  const { replay, outputs } = overlay.shared;
  place(replay, frame);
  toPort(overlay, port, replay, 0);
  outputs.flush(replay);
}

/**
 * Delivers an untagged frame to every port except the one it is about. An access port sees its VLAN untagged,
 * so the frame is in its VLAN. Behind a trunk port only the untagged VLAN receives it, since the mapping has
 * no VLAN for an address.
 */
export function announce(overlay: Overlay, frame: Uint8Array): void {
  const { replay, outputs } = overlay.shared;
  const high = ethernet.sourceHigh(frame, 0);
  const low = ethernet.sourceLow(frame, 0);
  place(replay, frame);
  for (const port of overlay.ports) {
    if (port.macHigh === high && port.macLow === low) continue;
    port.counters[COUNTER.rx_frames]++;
    port.counters[COUNTER.rx_bytes] += frame.length;
    outputs.spentSegments += WRITE_COST;
    outputs.add(port.output, replay, 0, 0, overlay.drops);
  }
  outputs.flush(replay);
}

/** Makes `frame` the first of the batch, with no offload. */
export function place({ bytes, descriptors }: FrameBatch, frame: Uint8Array): void {
  bytes.set(frame, HEADROOM_BYTES);
  descriptors.fill(0, 0, DESCRIPTOR_WORDS);
  descriptors[OFFSET] = HEADROOM_BYTES;
  descriptors[LENGTH] = frame.length;
}
