/** Frames that varpd sends in the name of a port: replies to loopback messages, and those of a probe. */
import { TRAFFIC } from '../counts/counters.js';
import { forgetOrigin } from '../counts/drops.js';
import { place } from '../inject.js';
import type { Overlay, Port, Shared } from '../overlay.js';
import type { ProbeFrame } from './probe.js';
import { transmitMade } from '../transmit.js';

const FIRST_DROP = Object.keys(TRAFFIC).length;

/** Sends the replies that wait. Returns whether there were any. */
export function sendReplies(shared: Shared, find: (id: number) => Overlay | undefined): boolean {
  if (shared.replies.isEmpty) return false;
  forgetOrigin(shared);
  shared.outputs.spentSegments = 0;
  for (const { overlay: id, port, frame } of shared.replies.take()) {
    const overlay = find(id);
    // The port may be gone by now.
    if (overlay?.ports.includes(port) === true) send(overlay, port, frame);
  }
  return true;
}

/** Sends a frame of a probe. Returns the counter of the drop if it was dropped at once. */
export function sendProbe(overlay: Overlay, port: Port, { frame }: ProbeFrame): number | undefined {
  const before = overlay.counters.slice();
  send(overlay, port, frame);
  const dropped = overlay.counters.findIndex(
    (value, counter) => counter >= FIRST_DROP && value !== before[counter],
  );
  return dropped === -1 ? undefined : dropped;
}

function send(overlay: Overlay, port: Port, frame: Uint8Array): void {
  const { replay, outputs } = overlay.shared;
  place(replay, frame);
  transmitMade(overlay, port, replay, 0);
  outputs.flush(replay);
}
