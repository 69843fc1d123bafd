/** Frames that come from no device: made on the control side, delivered to ports as if out of the tunnel. */
import { DESCRIPTOR_WORDS, type FrameBatch, HEADROOM_BYTES, LENGTH, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import { COUNTER } from './counters.js';
import { toPort } from './deliver.js';
import { WRITE_COST } from './frame-count.js';
import type { Overlay, Port } from './overlay.js';

/** To one port, which takes the tag out if it is an access port. */
export function deliverTo(overlay: Overlay, port: Port, frame: Uint8Array): void {
  const { replay, outputs } = overlay.shared;
  place(replay, frame);
  toPort(overlay, port, replay, 0);
  outputs.flush(replay);
}

/**
 * An untagged frame to every port but the one it is about. Access ports see their VLAN untagged, so to them too it is
 * in theirs. Behind a trunk port only the untagged VLAN hears it: the mapping says of no address in which it is.
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

/** As frame 0 of the batch, complete: nothing is left to a device. */
function place({ bytes, descriptors }: FrameBatch, frame: Uint8Array): void {
  bytes.set(frame, HEADROOM_BYTES);
  descriptors.fill(0, 0, DESCRIPTOR_WORDS);
  descriptors[OFFSET] = HEADROOM_BYTES;
  descriptors[LENGTH] = frame.length;
}
